package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

const pathsHelp = `PATH is a mount and what is in it, as in the HTTP API below /v1/: secret/data/app,
auth/userpass/users/alice, sys/policies/acl/app.`

// answerFlags belong to requests by path.
type answerFlags struct {
	wrapTTL time.Duration
	field   string
}

func (o *answerFlags) addWrap(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&o.wrapTTL, "wrap-ttl", 0, "have the answer kept for `DURATION` for whoever has the token that is shown instead: see 'conclave unwrap'")
}

func (o *answerFlags) addField(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.field, "field", "", "print only the value of the field `NAME`, raw")
}

func (o *answerFlags) add(cmd *cobra.Command) {
	o.addWrap(cmd)
	o.addField(cmd)
}

func (o *answerFlags) options(cmd *cobra.Command) (client.PathOptions, error) {
	if changed(cmd, "wrap-ttl") && o.wrapTTL <= 0 {
		return client.PathOptions{}, usageError("Leave --wrap-ttl out for an answer that is not wrapped.", "--wrap-ttl %v is not positive", o.wrapTTL)
	}
	return client.PathOptions{WrapTTL: o.wrapTTL}, nil
}

// A request is what a command asks of the cluster.
type request func(ctx context.Context, p client.Paths) (*client.Answer, error)

// answering carries a request out and prints its answer.
func (inv *invocation) answering(done, field string, ask request) error {
	return inv.withCluster(func(ctx context.Context, c *client.Client) error {
		answer, err := ask(ctx, c.Paths)
		if err != nil {
			return err
		}
		return inv.renderAnswer(answer, done, field)
	})
}

func readCommand(inv *invocation) *cobra.Command {
	var o answerFlags
	cmd := &cobra.Command{
		Use:   "read PATH [NAME=VALUE...]",
		Short: "Read what is at a path of the API",
		Long:  "Read what is at a path of the API.\n\n" + pathsHelp,
		Example: `  conclave read sys/internal/ui/mounts
  conclave read secret/data/app version=2
  conclave read cubbyhole/note --field text
  conclave read secret/data/app --wrap-ttl 5m --field token`,
		Args: atLeast("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			options, err := o.options(cmd)
			if err != nil {
				return err
			}
			if options.Parameters, err = parseParameters(args[1:]); err != nil {
				return err
			}
			return inv.answering("nothing is said of "+args[0], o.field, func(ctx context.Context, p client.Paths) (*client.Answer, error) {
				return p.Read(ctx, args[0], options)
			})
		},
	}
	o.add(cmd)
	return cmd
}

func listCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "list PATH [NAME=VALUE...]",
		Short: "List the names below a path of the API",
		Long:  "List the names below a path of the API. A trailing slash marks a directory.\n\n" + pathsHelp,
		Example: `  conclave list secret/metadata
  conclave list auth/userpass/users`,
		Args: atLeast("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			parameters, err := parseParameters(args[1:])
			if err != nil {
				return err
			}
			return inv.answering("nothing is below "+args[0], "", func(ctx context.Context, p client.Paths) (*client.Answer, error) {
				return p.List(ctx, args[0], client.PathOptions{Parameters: parameters})
			})
		},
	}
}

func writeCommand(inv *invocation) *cobra.Command {
	return sending(inv, "wrote", client.Paths.Write, &cobra.Command{
		Use:   "write PATH [FIELD...]",
		Short: "Write to a path of the API",
		Long:  "Write to a path of the API, or have it do something.\n\n" + pathsHelp + "\n\n" + bodyHelp,
		Example: `  conclave write cubbyhole/note text=hello
  conclave write auth/userpass/users/alice password=@password.txt token_policies=app
  jq . role.json | conclave write auth/jwt/role/ci -`,
	})
}

func patchCommand(inv *invocation) *cobra.Command {
	return sending(inv, "patched", client.Paths.Patch, &cobra.Command{
		Use:   "patch PATH FIELD...",
		Short: "Change a part of what is at a path of the API",
		Long:  "Change a part of what is at a path of the API, by a JSON merge patch: null removes.\n\n" + pathsHelp + "\n\n" + bodyHelp,
		Example: `  conclave patch secret/metadata/app 'custom_metadata:={"owner": "me", "old": null}'
  conclave patch secret/data/app @change.json`,
	})
}

// sending completes a command that sends a body.
func sending(inv *invocation, done string, send func(client.Paths, context.Context, string, any, client.PathOptions) (*client.Answer, error), cmd *cobra.Command) *cobra.Command {
	var o answerFlags
	cmd.Args = atLeast("PATH")
	if strings.HasSuffix(cmd.Use, " FIELD...") {
		cmd.Args = atLeast("PATH", "FIELD")
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		options, err := o.options(cmd)
		if err != nil {
			return err
		}
		fields, err := inv.parseBody(args[1:])
		if err != nil {
			return err
		}
		return inv.answering(done+" "+args[0], o.field, func(ctx context.Context, p client.Paths) (*client.Answer, error) {
			return send(p, ctx, args[0], fields, options)
		})
	}
	o.add(cmd)
	return cmd
}

func deleteCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "delete PATH [NAME=VALUE...]",
		Short: "Delete what is at a path of the API",
		Long:  "Delete what is at a path of the API.\n\n" + pathsHelp,
		Example: `  conclave delete cubbyhole/note
  conclave delete auth/userpass/users/alice`,
		Args: atLeast("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			parameters, err := parseParameters(args[1:])
			if err != nil {
				return err
			}
			return inv.answering("deleted "+args[0], "", func(ctx context.Context, p client.Paths) (*client.Answer, error) {
				return p.Delete(ctx, args[0], client.PathOptions{Parameters: parameters})
			})
		},
	}
}

func pathHelpCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "path-help PATH",
		Short: "Tell what a path of the API answers, or a whole mount",
		Example: `  conclave path-help secret
  conclave path-help auth/userpass/users/alice`,
		Args: exactArgs("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				answer, err := c.Paths.Help(ctx, args[0])
				if err != nil {
					return err
				}
				if inv.format != formatTable {
					return inv.renderAnswer(answer, "", "")
				}
				var told struct {
					Help string `json:"help"`
				}
				if err := answer.Decode(&told); err != nil {
					return err
				}
				return inv.writeText(strings.TrimRight(told.Help, "\n") + "\n")
			})
		},
	}
}

func unwrapCommand(inv *invocation) *cobra.Command {
	var field string
	cmd := &cobra.Command{
		Use:   "unwrap [@FILE|-]",
		Short: "Open a wrapped answer, once",
		Long: `Open a wrapped answer. It opens once: if this says that the token is not valid
and nobody of yours has used it, somebody else has.

The wrapping token comes from a prompt without echo, from standard input, or from
a file. No other token is needed.`,
		Example: `  conclave unwrap
  conclave unwrap @wrapped.txt --field secret_id
  conclave read secret/data/app --wrap-ttl 5m --field token | conclave unwrap`,
		Args: atMostOne,
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := inv.credential("wrapping token", strings.Join(args, ""))
			if err != nil {
				return err
			}
			return inv.answering("what was wrapped is empty", field, func(ctx context.Context, p client.Paths) (*client.Answer, error) {
				return p.Write(ctx, "sys/wrapping/unwrap", map[string]string{"token": strings.TrimSpace(text)}, client.PathOptions{})
			})
		},
	}
	cmd.Flags().StringVar(&field, "field", "", "print only the value of the field `NAME`, raw")
	return cmd
}
