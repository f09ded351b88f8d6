package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/policy"
)

// A question is what "conclave policy explain" asks.
type question struct {
	target     tokenTarget
	policies   []string
	files      []string
	capability string
	path       string
	parameters body
	wrapTTL    time.Duration
	sudo       bool
}

func policyExplain(inv *invocation) *cobra.Command {
	var q question
	cmd := &cobra.Command{
		Use:   "explain CAPABILITY PATH [FIELD...]",
		Short: "Tell whether something is allowed, and which rule says so",
		Long: `Tell whether something is allowed, and which rule of which policy says so: to your
own token, to another (--token, --accessor), or to whoever has some policies
(--policy). FIELDs are the fields of the request, for rules that constrain them.

With --file the policies are read from files, and no cluster is asked.

Exit codes: 0 allowed, 3 refused.

` + bodyHelp,
		Example: `  conclave policy explain read secret/data/app
  conclave policy explain update secret/data/app --accessor 8609694a38aeb2a0a3
  conclave policy explain create auth/token/create ttl=1h --policy app --policy ci
  conclave policy explain read secret/data/app --file app.hcl --reason TICKET-123`,
		Args: atLeast("CAPABILITY", "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error { return inv.explain(cmd, &q, args) },
	}
	q.target.add(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&q.policies, "policy", nil, "whoever has the policy `NAME`, repeatable")
	f.StringSliceVar(&q.files, "file", nil, "whoever has the policy in `FILE`, repeatable; asks no cluster")
	f.DurationVar(&q.wrapTTL, "wrap-ttl", 0, "as if the answer were to be wrapped for `DURATION`")
	f.BoolVar(&q.sudo, "sudo", false, "with --file: as if the path needed sudo, too, which else a cluster knows")
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return askable, cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// askable are the capabilities that a request can need.
var askable = []string{"create", "read", "update", "patch", "delete", "list"}

func (inv *invocation) explain(cmd *cobra.Command, q *question, args []string) error {
	var err error
	q.capability, q.path = args[0], strings.TrimPrefix(args[1], "/")
	if err := q.check(cmd); err != nil {
		return err
	}
	if q.parameters, err = inv.parseBody(args[2:]); err != nil {
		return err
	}
	if len(q.files) > 0 {
		e, err := q.decideHere(inv)
		if err != nil {
			return err
		}
		return inv.renderExplanation(e)
	}
	request, err := q.request(inv)
	if err != nil {
		return err
	}
	return inv.withCluster(func(ctx context.Context, c *client.Client) error {
		answer, err := c.Paths.Write(ctx, "sys/policies/explain", request, client.PathOptions{})
		if err != nil {
			return err
		}
		var e policy.Explanation
		if err := answer.Decode(&e); err != nil {
			return err
		}
		inv.warn(answer.Warnings)
		return inv.renderExplanation(e)
	})
}

func (q *question) check(cmd *cobra.Command) error {
	capability, known := policy.ParseCapability(q.capability)
	switch {
	case !known || capability == policy.CapabilityDeny || capability == policy.CapabilitySudo || capability == policy.CapabilityScan:
		return usageError("Use one of "+strings.Join(askable, ", ")+".", "%q is no capability that a request can need", q.capability)
	case q.path == "":
		return usageError("Name a path as in a policy: secret/data/app.", "the path is empty")
	case changed(cmd, "wrap-ttl") && q.wrapTTL <= 0:
		return usageError("", "--wrap-ttl %v is not positive", q.wrapTTL)
	case q.sudo && len(q.files) == 0:
		return usageError("A cluster knows which paths need it.", "--sudo goes with --file only")
	}
	kinds := 0
	for _, given := range []bool{q.target != (tokenTarget{}), len(q.policies) > 0, len(q.files) > 0} {
		if given {
			kinds++
		}
	}
	if kinds > 1 {
		return usageError("Ask for one of them at a time.", "a token, --policy and --file exclude each other")
	}
	return nil
}

// request is the body that asks the cluster.
func (q *question) request(inv *invocation) (map[string]any, error) {
	_, out, err := q.target.choose(inv, "", "", "")
	if err != nil {
		return nil, err
	}
	out["capability"], out["path"] = q.capability, q.path
	if len(q.policies) > 0 {
		out["policies"] = q.policies
	}
	if len(q.parameters) > 0 {
		out["parameters"] = q.parameters
	}
	if q.wrapTTL > 0 {
		out["wrap_ttl"] = q.wrapTTL.String()
	}
	if reason := inv.why(); reason != "" {
		out["reason"] = reason
	}
	return out, nil
}

// decideHere decides by policies in files.
func (q *question) decideHere(inv *invocation) (policy.Explanation, error) {
	var policies []*policy.Policy
	for _, file := range q.files {
		source, err := inv.readPolicySource(file)
		if err != nil {
			return policy.Explanation{}, err
		}
		base := filepath.Base(file)
		p, err := source.parse(inv, strings.TrimSuffix(base, filepath.Ext(base)))
		if err != nil {
			return policy.Explanation{}, err
		}
		if p.Templated() {
			fmt.Fprintf(inv.err, "warning: %s: rules with templates are left out, because here is no identity to fill them with\n", source.file)
		}
		policies = append(policies, p)
	}
	parameters := map[string]any{}
	for name, raw := range q.parameters {
		var value any
		if err := json.Unmarshal(raw, &value); err != nil {
			return policy.Explanation{}, usageError("", "field %q is not JSON", name)
		}
		parameters[name] = value
	}
	capability, _ := policy.ParseCapability(q.capability) // check has looked
	return policy.Compile(policies...).Explain(policy.Request{
		Path: q.path, Capability: capability, Sudo: q.sudo, Parameters: maps.All(parameters),
		Wrapped: q.wrapTTL > 0, WrapTTL: q.wrapTTL, Reason: inv.why(),
	}), nil
}

// renderExplanation tells the verdict, the sentence, and every rule that matched.
// Refused is an exit code and no error: it is the answer.
func (inv *invocation) renderExplanation(e policy.Explanation) error {
	err := inv.render(e, func(out io.Writer) {
		verdict, why := "refused", strings.TrimPrefix(e.Sentence, "refused: ")
		if e.Decision.Allowed {
			verdict, why = "allowed", strings.TrimPrefix(e.Sentence, "granted: ")
		}
		fmt.Fprintf(out, "%s: %s %s\n", verdict, e.Capability, printable(e.Path))
		fmt.Fprintln(out, printable(why))
		if len(e.Rules) == 0 {
			return
		}
		fmt.Fprintln(out)
		row(out, "POLICY", "LINE", "PATTERN", "CAPABILITIES", "DECIDED")
		for _, r := range e.Rules {
			for _, s := range r.Sources {
				row(out, printable(s.Policy), s.Line, printable(r.Pattern), strings.Join(s.Capabilities, ", "), yesNo(r.Decided))
			}
		}
	})
	if err != nil {
		return err
	}
	if !e.Decision.Allowed {
		return exitWith(exitDenied)
	}
	return nil
}
