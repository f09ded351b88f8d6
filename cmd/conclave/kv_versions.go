package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

// A versionsWrite changes versions of a secret: it is a method of
// client.Secrets.
type versionsWrite func(client.Secrets, context.Context, string, []uint64, client.WriteOptions) (uint64, error)

func kvDelete(inv *invocation) *cobra.Command {
	return versionsCommand(inv, "delete", "Hide versions of a secret",
		"Hide the current version, or those of --versions. 'conclave kv undelete' brings them back.",
		"  conclave kv delete app/db\n  conclave kv delete app/db --versions 2,3",
		"deleted", false, client.Secrets.Delete)
}

func kvUndelete(inv *invocation) *cobra.Command {
	return versionsCommand(inv, "undelete", "Bring deleted versions back",
		"Bring deleted versions back, unless they were destroyed.",
		"  conclave kv undelete app/db --versions 3",
		"undeleted", true, client.Secrets.Undelete)
}

func kvDestroy(inv *invocation) *cobra.Command {
	return versionsCommand(inv, "destroy", "Remove the data of versions for good",
		"Remove the data of versions for good. Nothing brings them back.",
		"  conclave kv destroy app/db --versions 1,2",
		"destroyed versions of", true, client.Secrets.Destroy)
}

func versionsCommand(inv *invocation, name, short, long, example, done string, needVersions bool, method versionsWrite) *cobra.Command {
	var o writeFlags
	cmd := &cobra.Command{Use: name + " PATH", Short: short, Long: long, Example: example, Args: exactArgs("PATH")}
	o.add(cmd)
	versions := versionsFlag(cmd, "the `N,N,…` of the versions")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		numbers, err := versions()
		if err != nil {
			return err
		}
		if needVersions && len(numbers) == 0 {
			return usageError("See the versions with 'conclave kv metadata get "+args[0]+"'.", "%s needs --versions", cmd.CommandPath())
		}
		return inv.withCluster(func(ctx context.Context, c *client.Client) error {
			index, err := method(c.Secrets, ctx, args[0], numbers, o.options())
			if err != nil {
				return err
			}
			return inv.renderDone(done, args[0], index)
		})
	}
	return cmd
}

func kvRollback(inv *invocation) *cobra.Command {
	var o writeFlags
	var version uint64
	cmd := &cobra.Command{
		Use:     "rollback PATH --version N",
		Short:   "Write an earlier version again, as a new one",
		Example: `  conclave kv rollback app/db --version 2`,
		Args:    exactArgs("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if version == 0 {
				return usageError("See the versions with 'conclave kv metadata get "+args[0]+"'.", "%s needs --version", cmd.CommandPath())
			}
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				written, err := c.Secrets.Rollback(ctx, args[0], version, client.PutOptions{CAS: o.check(cmd), WriteOptions: o.options()})
				if err != nil {
					return err
				}
				return inv.renderWritten(args[0], written)
			})
		},
	}
	o.add(cmd)
	o.addCAS(cmd)
	cmd.Flags().Uint64Var(&version, "version", 0, "the version `N` whose data becomes current")
	return cmd
}
