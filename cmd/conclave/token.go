package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

func durationOf(seconds int64) time.Duration { return time.Duration(seconds) * time.Second }

func tokenCommand(inv *invocation) *cobra.Command {
	return group("token", "Create, look up, renew and revoke tokens",
		"Create, look up, renew and revoke tokens.\n\n"+
			"A token is named by its accessor, which is not secret, or read from a file or from\n"+
			"standard input: it is never an argument itself.",
		tokenCreate(inv), tokenLookup(inv), tokenRenew(inv), tokenRevoke(inv), tokenCapabilities(inv))
}

// A tokenTarget is the token that a command is about: the caller's own unless
// something else is said.
type tokenTarget struct {
	source, accessor string
	self             bool
}

func (o *tokenTarget) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.source, "token", "", "the token in a file (`@FILE`), or on standard input or at the prompt (-)")
	cmd.Flags().StringVar(&o.accessor, "accessor", "", "the token with this `ACCESSOR`")
}

// argument takes an argument for --token or --accessor. What looks like a token
// is refused.
func (o *tokenTarget) argument(args []string) error {
	for _, arg := range args {
		if o.source != "" || o.accessor != "" {
			return usageError("Name it once: ACCESSOR, @FILE or -.", "more than one token is named")
		}
		switch {
		case strings.HasPrefix(arg, "@"), arg == "-":
			o.source = arg
		case strings.HasPrefix(arg, "hvs."), strings.HasPrefix(arg, "hvb."), strings.HasPrefix(arg, "s."), strings.HasPrefix(arg, "b."):
			return argvError("token")
		default:
			o.accessor = arg
		}
	}
	return nil
}

// choose returns the one of three paths that suits the target, and the fields
// that name it.
func (o *tokenTarget) choose(inv *invocation, self, token, accessor string) (path string, body map[string]any, err error) {
	named := 0
	for _, given := range []bool{o.source != "", o.accessor != "", o.self} {
		if given {
			named++
		}
	}
	switch {
	case named > 1:
		return "", nil, usageError("Name one token.", "--token, --accessor and --self exclude each other")
	case o.source != "":
		text, err := inv.credential("token", o.source)
		return token, map[string]any{"token": strings.TrimSpace(text)}, err
	case o.accessor != "":
		return accessor, map[string]any{"accessor": o.accessor}, nil
	}
	return self, map[string]any{}, nil
}

type createFlags struct {
	answerFlags
	policies, metadata                    []string
	ttl, period, explicitMax              time.Duration
	uses                                  uint64
	role, displayName, kind               string
	orphan, noDefaultPolicy, notRenewable bool
}

func tokenCreate(inv *invocation) *cobra.Command {
	var o createFlags
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a token",
		Long: `Create a token: a child of yours, which ends with it. Without --policy it has
your policies. The token is shown; nothing shows it again.`,
		Example: `  conclave token create --policy app --ttl 1h
  conclave token create --policy app --ttl 1h --field token
  conclave token create --orphan --period 24h --display-name backup --metadata team=db
  conclave token create --policy app --use-limit 3 --wrap-ttl 10m`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := o.options(cmd)
			if err != nil {
				return err
			}
			path, body, err := o.request()
			if err != nil {
				return err
			}
			return inv.answering("", o.field, func(ctx context.Context, p client.Paths) (*client.Answer, error) {
				return p.Write(ctx, path, body, options)
			})
		},
	}
	o.answerFlags.add(cmd)
	f := cmd.Flags()
	f.StringSliceVar(&o.policies, "policy", nil, "with the policy `NAME`, repeatable (default: your own)")
	f.DurationVar(&o.ttl, "ttl", 0, "it ends after `DURATION` unless it is renewed (default: the system's)")
	f.DurationVar(&o.explicitMax, "explicit-max-ttl", 0, "no renewal goes past `DURATION` from now")
	f.DurationVar(&o.period, "period", 0, "each renewal gives `DURATION`, without a maximum; needs sudo")
	f.Uint64Var(&o.uses, "use-limit", 0, "it may be used `N` times; 0: without limit")
	f.BoolVar(&o.orphan, "orphan", false, "it does not end with yours; needs sudo, or the right to auth/token/create-orphan")
	f.StringVar(&o.role, "role", "", "as the token role `NAME` says")
	f.StringVar(&o.displayName, "display-name", "", "shown in the audit log as token-`NAME`")
	f.StringArrayVar(&o.metadata, "metadata", nil, "`NAME=VALUE` shown with the token and in the audit log, repeatable")
	f.StringVar(&o.kind, "type", "", "`TYPE` service or batch (default: service)")
	f.BoolVar(&o.noDefaultPolicy, "no-default-policy", false, "without the policy named default")
	f.BoolVar(&o.notRenewable, "not-renewable", false, "it cannot be renewed")
	complete(cmd, "type", "service", "batch")
	return cmd
}

// request returns the path and the body that make the token.
func (o *createFlags) request() (string, map[string]any, error) {
	body := map[string]any{"no_default_policy": o.noDefaultPolicy, "renewable": !o.notRenewable}
	for name, d := range map[string]time.Duration{"ttl": o.ttl, "period": o.period, "explicit_max_ttl": o.explicitMax} {
		switch {
		case d < 0:
			return "", nil, usageError("", "--%s %v is negative", strings.ReplaceAll(name, "_", "-"), d)
		case d > 0:
			body[name] = d.String()
		}
	}
	for name, text := range map[string]string{"display_name": o.displayName, "type": o.kind} {
		if text != "" {
			body[name] = text
		}
	}
	if len(o.policies) > 0 {
		body["policies"] = o.policies
	}
	if o.uses > 0 {
		body["num_uses"] = o.uses
	}
	if len(o.metadata) > 0 {
		metadata, err := pairs("metadata", o.metadata)
		if err != nil {
			return "", nil, err
		}
		body["meta"] = metadata
	}
	switch {
	case o.role != "":
		body["no_parent"] = o.orphan
		return "auth/token/create/" + o.role, body, nil
	case o.orphan:
		return "auth/token/create-orphan", body, nil
	}
	return "auth/token/create", body, nil
}

// pairs reads the values of a repeated flag, name=value.
func pairs(flag string, texts []string) (map[string]string, error) {
	out := map[string]string{}
	for _, text := range texts {
		name, value, found := strings.Cut(text, "=")
		if !found || name == "" {
			return nil, usageError("Write --"+flag+" name=value.", "--%s: %q is not name=value", flag, text)
		}
		if _, twice := out[name]; twice {
			return nil, usageError("", "--%s: %q is given twice", flag, name)
		}
		out[name] = value
	}
	return out, nil
}

// aboutToken completes a command that is about one token, named by an argument
// or a flag. do says what is asked of which path.
func aboutToken(inv *invocation, o *tokenTarget, cmd *cobra.Command, do func() error) *cobra.Command {
	cmd.Args = atMostOne
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if err := o.argument(args); err != nil {
			return err
		}
		return do()
	}
	o.add(cmd)
	return cmd
}

func tokenLookup(inv *invocation) *cobra.Command {
	var o tokenTarget
	var field string
	cmd := aboutToken(inv, &o, &cobra.Command{
		Use:   "lookup [ACCESSOR|@FILE|-]",
		Short: "Describe a token, your own by default",
		Example: `  conclave token lookup
  conclave token lookup 8609694a38aeb2a0a3
  conclave token lookup @token.txt --format json`,
	}, func() error {
		path, body, err := o.choose(inv, "auth/token/lookup-self", "auth/token/lookup", "auth/token/lookup-accessor")
		if err != nil {
			return err
		}
		return inv.answering("", field, func(ctx context.Context, p client.Paths) (*client.Answer, error) {
			ask := func() (*client.Answer, error) { return p.Write(ctx, path, body, client.PathOptions{}) }
			if len(body) == 0 { // what the policy default grants
				ask = func() (*client.Answer, error) { return p.Read(ctx, path, client.PathOptions{}) }
			}
			answer, err := ask()
			if err == nil && inv.format == formatTable && field == "" {
				err = withoutID(answer)
			}
			return answer, err
		})
	})
	cmd.Flags().StringVar(&field, "field", "", "print only the value of the field `NAME`, raw")
	return cmd
}

// withoutID leaves the token itself out of what people see on their screens.
func withoutID(a *client.Answer) error {
	var members map[string]json.RawMessage
	if err := a.Decode(&members); err != nil {
		return err
	}
	delete(members, "id")
	raw, err := json.Marshal(members)
	a.Data = client.JSON(raw)
	return err
}

func tokenRenew(inv *invocation) *cobra.Command {
	var o tokenTarget
	var increment time.Duration
	cmd := aboutToken(inv, &o, &cobra.Command{
		Use:   "renew [ACCESSOR|@FILE|-]",
		Short: "Have a token live longer, your own by default",
		Example: `  conclave token renew
  conclave token renew 8609694a38aeb2a0a3 --increment 2h`,
	}, func() error {
		if increment < 0 {
			return usageError("", "--increment %v is negative", increment)
		}
		path, body, err := o.choose(inv, "auth/token/renew-self", "auth/token/renew", "auth/token/renew-accessor")
		if err != nil {
			return err
		}
		if increment > 0 {
			body["increment"] = increment.String()
		}
		return inv.answering("", "", func(ctx context.Context, p client.Paths) (*client.Answer, error) {
			answer, err := p.Write(ctx, path, body, client.PathOptions{})
			if err == nil && answer.Auth != nil {
				answer.Auth.Token = client.Token{} // who renews it has it
			}
			return answer, err
		})
	})
	cmd.Flags().DurationVar(&increment, "increment", 0, "it ends `DURATION` from now, if its maximum allows (default: what it was made with)")
	return cmd
}

func tokenRevoke(inv *invocation) *cobra.Command {
	var o tokenTarget
	var mode string
	cmd := aboutToken(inv, &o, &cobra.Command{
		Use:   "revoke [ACCESSOR|@FILE|-]",
		Short: "End a token, with its children and leases",
		Long: `End a token, with its children and leases. With --mode orphan its children live
on, as orphans.`,
		Example: `  conclave token revoke 8609694a38aeb2a0a3
  conclave token revoke @token.txt --mode orphan
  conclave token revoke --self`,
	}, func() error {
		paths := [3]string{"auth/token/revoke-self", "auth/token/revoke", "auth/token/revoke-accessor"}
		switch {
		case mode != "" && mode != "orphan":
			return usageError("Leave --mode out to end the children, too.", "unknown --mode %q", mode)
		case mode == "orphan" && (o.self || o.accessor != ""):
			return usageError("Name it as @FILE or -.", "--mode orphan takes a token, not an accessor or --self")
		case mode == "orphan":
			paths[1] = "auth/token/revoke-orphan"
		}
		if o == (tokenTarget{}) {
			return usageError("Name an ACCESSOR, @FILE or -, or say --self.", "no token is named")
		}
		path, body, err := o.choose(inv, paths[0], paths[1], paths[2])
		if err != nil {
			return err
		}
		return inv.answering("revoked the token", "", func(ctx context.Context, p client.Paths) (*client.Answer, error) {
			return p.Write(ctx, path, body, client.PathOptions{})
		})
	})
	cmd.Flags().BoolVar(&o.self, "self", false, "end your own token")
	cmd.Flags().StringVar(&mode, "mode", "", "`MODE` orphan: the children live on")
	complete(cmd, "mode", "orphan")
	return cmd
}

func tokenCapabilities(inv *invocation) *cobra.Command {
	var o tokenTarget
	cmd := &cobra.Command{
		Use:   "capabilities PATH...",
		Short: "Tell what a token may do on paths, your own by default",
		Example: `  conclave token capabilities secret/data/app
  conclave token capabilities secret/data/app sys/mounts --accessor 8609694a38aeb2a0a3
  conclave token capabilities secret/data/app --token @token.txt`,
		Args: atLeast("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			path, body, err := o.choose(inv, "sys/capabilities-self", "sys/capabilities", "sys/capabilities-accessor")
			if err != nil {
				return err
			}
			body["paths"] = args
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				answer, err := c.Paths.Write(ctx, path, body, client.PathOptions{})
				if err != nil {
					return err
				}
				return inv.renderCapabilities(args, answer)
			})
		},
	}
	o.add(cmd)
	return cmd
}
