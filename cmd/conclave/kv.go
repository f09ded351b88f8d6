package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

func kvCommand(inv *invocation) *cobra.Command {
	cmd := group("kv", "Read and write secrets", "Read and write secrets and their versions.",
		kvPut(inv), kvGet(inv), kvList(inv),
		kvDelete(inv), kvUndelete(inv), kvDestroy(inv), kvRollback(inv),
		kvMetadata(inv),
	)
	cmd.PersistentFlags().StringVar(&inv.mount, "mount", "secret", "`PATH` of the kv mount, of version 2")
	completeNames(cmd, inv.offering(secretNames))
	return cmd
}

func kvPut(inv *invocation) *cobra.Command {
	var o writeFlags
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "put PATH FIELD...",
		Short: "Write a new version of a secret",
		Long:  "Write a new version of a secret. It replaces all the fields.\n\n" + fieldsHelp,
		Example: `  conclave kv put app/db user=app password=@password.txt
  pwgen 30 1 | conclave kv put app/db password=-
  conclave kv put app/db --cas 3 user=app retries:=5
  conclave kv put --mount team-a app/db user=app`,
		Args: atLeast("PATH", "FIELD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := parseFields(args[1:], inv.in)
			if err != nil {
				return err
			}
			if changed(cmd, "ttl") && ttl <= 0 {
				return usageError("Leave --ttl out for a version that does not expire.", "--ttl %v is not positive", ttl)
			}
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				written, err := c.Secrets.Put(ctx, args[0], data, client.PutOptions{CAS: o.check(cmd), TTL: ttl, WriteOptions: o.options()})
				if err != nil {
					return err
				}
				return inv.renderWritten(args[0], written)
			})
		},
	}
	o.add(cmd)
	o.addCAS(cmd)
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "the version expires after this `DURATION`")
	return cmd
}

// writeFlags belong to commands that write.
type writeFlags struct {
	cas uint64
	key string
}

func (o *writeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.key, "idempotency-key", "", "carry this out once per `KEY`: to repeat a write of unknown outcome (default: drawn by chance)")
}

func (o *writeFlags) addCAS(cmd *cobra.Command) {
	cmd.Flags().Uint64Var(&o.cas, "cas", 0, "write only if `N` is the current version; 0: only if there is none")
}

func (o *writeFlags) check(cmd *cobra.Command) *uint64 {
	if !cmd.Flags().Changed("cas") {
		return nil
	}
	return &o.cas
}

func (o *writeFlags) options() client.WriteOptions {
	return client.WriteOptions{IdempotencyKey: o.key}
}

// versionView is a version in JSON and YAML.
type versionView struct {
	Version   uint64 `json:"version"`
	CreatedAt string `json:"created_at,omitempty"`
	DeletedAt string `json:"deleted_at,omitempty"`
	Deleted   bool   `json:"deleted"`
	Destroyed bool   `json:"destroyed"`
}

func viewVersion(v client.Version) versionView {
	return versionView{v.Number, stamp(v.CreatedAt), stamp(v.DeletedAt), v.Deleted, v.Destroyed}
}

func versionState(v client.Version) string {
	switch {
	case v.Destroyed:
		return "destroyed"
	case v.Deleted:
		return "deleted"
	case !v.DeletedAt.IsZero():
		return "expires " + shortStamp(v.DeletedAt)
	}
	return "live"
}

func (inv *invocation) renderWritten(path string, w client.Written) error {
	view := struct {
		Path string `json:"path"`
		versionView
		Index uint64 `json:"index"`
	}{path, viewVersion(w.Version), w.Index}
	return inv.render(view, func(out io.Writer) {
		row(out, "path", path)
		row(out, "version", w.Version.Number)
		row(out, "created", shortStamp(w.Version.CreatedAt))
		if !w.Version.DeletedAt.IsZero() {
			row(out, "expires", shortStamp(w.Version.DeletedAt))
		}
	})
}

// renderDone is the answer of a write that returns nothing but its index.
func (inv *invocation) renderDone(what, subject string, index uint64) error {
	view := struct {
		Done  string `json:"done"`
		Index uint64 `json:"index"`
	}{what + " " + subject, index}
	return inv.render(view, func(out io.Writer) { row(out, view.Done) })
}

func kvGet(inv *invocation) *cobra.Command {
	var field string
	var version uint64
	cmd := &cobra.Command{
		Use:   "get PATH",
		Short: "Read a secret",
		Long: `Read a secret: the current version, or another with --version.

With --field only that value is printed, byte for byte; a line end is added
only on a terminal.`,
		Example: `  conclave kv get app/db
  conclave kv get app/db --field password
  conclave kv get app/db --version 2 --format json`,
		Args: exactArgs("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("version") && version == 0 {
				return usageError("Versions count from 1.", "--version 0 does not exist")
			}
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				secret, err := c.Secrets.Get(ctx, args[0], client.GetOptions{Version: version})
				if err != nil {
					return err
				}
				if cmd.Flags().Changed("field") {
					return inv.writeField(secret, args[0], field)
				}
				return inv.renderSecret(args[0], secret)
			})
		},
	}
	cmd.Flags().StringVar(&field, "field", "", "print only the value of the field `NAME`, raw")
	cmd.Flags().Uint64Var(&version, "version", 0, "read version `N`")
	return cmd
}

func (inv *invocation) writeField(s client.Secret, path, field string) error {
	value, ok := s.Data[field]
	if !ok {
		return &failure{exitNotFound, fmt.Errorf("secret %q has no field %q in version %d", path, field, s.Version.Number),
			fieldsHint(s)}
	}
	raw := value.Reveal()
	if inv.outIsTerminal {
		raw = append(raw, '\n')
	}
	if _, err := inv.out.Write(raw); err != nil {
		return fmt.Errorf("writing the value: %w", err)
	}
	return nil
}

func fieldsHint(s client.Secret) string {
	if s.Version.Deleted || s.Version.Destroyed {
		return "That version is " + versionState(s.Version) + "."
	}
	return "It has: " + strings.Join(slices.Sorted(maps.Keys(s.Data)), ", ")
}

func (inv *invocation) renderSecret(path string, s client.Secret) error {
	view := struct {
		Path           string            `json:"path"`
		Data           map[string]any    `json:"data"`
		Metadata       versionView       `json:"metadata"`
		CustomMetadata map[string]string `json:"custom_metadata,omitempty"`
		Index          uint64            `json:"index"`
	}{path, dataView(s.Data), viewVersion(s.Version), s.CustomMetadata, s.Index}
	return inv.render(view, func(out io.Writer) {
		row(out, "== metadata ==")
		row(out, "path", path)
		row(out, "version", s.Version.Number)
		row(out, "created", shortStamp(s.Version.CreatedAt))
		row(out, "state", versionState(s.Version))
		row(out, "index", s.Index)
		customRows(out, s.CustomMetadata)
		row(out)
		row(out, "== data ==")
		for _, name := range slices.Sorted(maps.Keys(s.Data)) {
			row(out, printable(name), fieldCell(s.Data[name]))
		}
	})
}

func customRows(out io.Writer, custom map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(custom)) {
		row(out, "custom "+printable(name), printable(custom[name]))
	}
}

func kvList(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "list [PATH]",
		Short: "List the names in a directory",
		Long:  "List the names in a directory, the root without PATH. A trailing slash marks a directory.",
		Example: `  conclave kv list
  conclave kv list app`,
		Args: atMostOne,
		RunE: func(_ *cobra.Command, args []string) error {
			path := strings.Join(args, "")
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				page, err := allNames(ctx, c, path)
				if err != nil {
					return err
				}
				view := struct {
					Path  string   `json:"path"`
					Names []string `json:"names"`
					Index uint64   `json:"index"`
				}{path, page.Names, page.Index}
				return inv.render(view, func(out io.Writer) {
					for _, name := range page.Names {
						row(out, printable(name))
					}
				})
			})
		},
	}
}

// allNames reads page after page. Index is that of the first, which all the
// others reflect too.
func allNames(ctx context.Context, c *client.Client, path string) (client.Page, error) {
	all := client.Page{Names: []string{}}
	var o client.ListOptions
	for {
		page, err := c.Secrets.List(ctx, path, o)
		if err != nil {
			return client.Page{}, err
		}
		if all.Index == 0 {
			all.Index = page.Index
		}
		all.Names = append(all.Names, page.Names...)
		if !page.More || len(page.Names) == 0 {
			return all, nil
		}
		o.After = page.Names[len(page.Names)-1]
	}
}

// atMostOne takes an optional PATH.
func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError("Usage: "+cmd.UseLine(), "%s takes at most one argument, not %d", cmd.CommandPath(), len(args))
	}
	return nil
}

// atLeast needs every name, and allows the last one to repeat.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return exactArgs(names...)(cmd, args)
		}
		return nil
	}
}

// versionsFlag adds --versions 1,2,3.
func versionsFlag(cmd *cobra.Command, usage string) func() ([]uint64, error) {
	var texts []string
	cmd.Flags().StringSliceVar(&texts, "versions", nil, usage)
	return func() ([]uint64, error) {
		var out []uint64
		for _, text := range texts {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil || n == 0 {
				return nil, usageError("Versions count from 1: --versions 3,4", "--versions: %q is no version", text)
			}
			out = append(out, n)
		}
		return out, nil
	}
}
