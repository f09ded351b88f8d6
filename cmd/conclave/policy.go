package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/policy"
)

const policiesPath = "sys/policies/acl"

func policyCommand(inv *invocation) *cobra.Command {
	cmd := group("policy", "Write and read policies, and ask them why", "Write and read policies, format them, and ask why they allow or refuse something.",
		policyWrite(inv), policyRead(inv), policyList(inv), policyDelete(inv), policyFmt(inv), policyExplain(inv))
	for _, sub := range cmd.Commands() {
		switch sub.Name() {
		case "read", "delete":
			sub.ValidArgsFunction = inv.offering(policyNames)
		case "fmt":
			sub.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
				return []string{"hcl", "json"}, cobra.ShellCompDirectiveFilterFileExt
			}
		}
	}
	return cmd
}

// policyNames lists the policies; they lie in no directory.
func policyNames(ctx context.Context, c *client.Client, _ string) ([]string, error) {
	return listNames(ctx, c, policiesPath)
}

// listNames lists the names below a path.
func listNames(ctx context.Context, c *client.Client, path string) ([]string, error) {
	answer, err := c.Paths.List(ctx, path, client.PathOptions{})
	if err != nil {
		return nil, err
	}
	var data struct {
		Keys []string `json:"keys"`
	}
	return data.Keys, answer.Decode(&data)
}

// policyPath is where a policy lies.
func policyPath(name string) (string, error) {
	if name == "" || strings.Contains(name, "/") {
		return "", usageError("Use letters, digits, - and _.", "the name of a policy is not empty and has no slash")
	}
	return policiesPath + "/" + name, nil
}

// A policySource is a policy's text and what to call the file it is from.
type policySource struct{ file, text string }

// readPolicySource reads a policy's text from a file, or for "-" from standard input.
func (inv *invocation) readPolicySource(file string) (policySource, error) {
	if file == "-" {
		text, err := io.ReadAll(io.LimitReader(inv.in, policy.MaxText+1))
		if err != nil {
			return policySource{}, usageError("", "reading the policy from standard input: %w", err)
		}
		return policySource{"standard input", string(text)}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return policySource{}, usageError("Name a file with a policy, or - for standard input.", "reading the policy: %w", err)
	}
	return policySource{file, string(text)}, nil
}

// placed tells a mistake in a policy by file, line and column.
func (s policySource) placed(err error) error {
	var syntax *policy.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("%s:%d:%d: %s", s.file, syntax.Line, syntax.Column, syntax.Problem)
	}
	return fmt.Errorf("%s: %w", s.file, err)
}

const policyHint = "The language is that of Vault's policies: path \"secret/data/app/*\" { capabilities = [\"read\"] }"

// parse reads the policy, and tells on standard error what is valid in it but
// seldom meant.
func (s policySource) parse(inv *invocation, name string) (*policy.Policy, error) {
	p, err := policy.Parse(name, s.text)
	if err != nil {
		return nil, &failure{exitUsage, s.placed(err), policyHint}
	}
	for _, w := range p.Warnings() {
		fmt.Fprintf(inv.err, "warning: %s:%d:%d: %s\n", s.file, w.Line, w.Column, w.Text)
	}
	return p, nil
}

func policyWrite(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "write NAME FILE|-",
		Short: "Write a policy",
		Long: `Write a policy from a file, or from standard input. It replaces one of that name,
and holds for every token that has it, at once.`,
		Example: `  conclave policy write app app.hcl
  conclave policy fmt app.hcl | conclave policy write app -`,
		Args: exactArgs("NAME", "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := policyPath(args[0])
			if err != nil {
				return err
			}
			source, err := inv.readPolicySource(args[1])
			if err != nil {
				return err
			}
			if _, err := source.parse(inv, args[0]); err != nil {
				return err
			}
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				answer, err := c.Paths.Write(ctx, path, map[string]string{"policy": source.text}, client.PathOptions{})
				if err != nil {
					return err
				}
				return inv.renderDone("wrote policy", args[0], answer.Index)
			})
		},
	}
}

func policyRead(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "read NAME",
		Short: "Print a policy as it was written",
		Example: `  conclave policy read app
  conclave policy read app > app.hcl`,
		Args: exactArgs("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := policyPath(args[0])
			if err != nil {
				return err
			}
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				answer, err := c.Paths.Read(ctx, path, client.PathOptions{})
				if err != nil {
					return err
				}
				var view struct {
					Name   string `json:"name"`
					Policy string `json:"policy"`
					Index  uint64 `json:"index"`
				}
				if err := answer.Decode(&view); err != nil {
					return err
				}
				view.Index = answer.Index
				if inv.format != formatTable {
					return inv.render(view, nil)
				}
				return inv.writeText(view.Policy)
			})
		},
	}
}

// writeText prints a text as it is; on a terminal it ends with its line.
func (inv *invocation) writeText(text string) error {
	if inv.outIsTerminal && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if _, err := io.WriteString(inv.out, text); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	return nil
}

func policyList(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the policies",
		Example: `  conclave policy list`,
		Args:    exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			return inv.answering("there are no policies", "", func(ctx context.Context, p client.Paths) (*client.Answer, error) {
				return p.List(ctx, policiesPath, client.PathOptions{})
			})
		},
	}
}

func policyDelete(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a policy; tokens that have it lose what it granted",
		Example: `  conclave policy delete app`,
		Args:    exactArgs("NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := policyPath(args[0])
			if err != nil {
				return err
			}
			return inv.answering("deleted policy "+args[0], "", func(ctx context.Context, p client.Paths) (*client.Answer, error) {
				return p.Delete(ctx, path, client.PathOptions{})
			})
		},
	}
}
