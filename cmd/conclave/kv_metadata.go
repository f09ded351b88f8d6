package main

import (
	"context"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

func kvMetadata(inv *invocation) *cobra.Command {
	return group("metadata", "Read and change what is known of a secret", "Read and change what is known of a secret apart from its data.",
		kvMetadataGet(inv), kvMetadataPut(inv), kvMetadataDelete(inv))
}

// metadataView is metadata in JSON and YAML.
type metadataView struct {
	Path               string            `json:"path"`
	CurrentVersion     uint64            `json:"current_version"`
	OldestVersion      uint64            `json:"oldest_version"`
	MaxVersions        uint64            `json:"max_versions"`
	CASRequired        bool              `json:"cas_required"`
	DeleteVersionAfter string            `json:"delete_version_after,omitempty"`
	CustomMetadata     map[string]string `json:"custom_metadata,omitempty"`
	CreatedAt          string            `json:"created_at,omitempty"`
	UpdatedAt          string            `json:"updated_at,omitempty"`
	Versions           []versionView     `json:"versions"`
	Index              uint64            `json:"index"`
}

func viewMetadata(path string, m client.Metadata) metadataView {
	view := metadataView{
		Path: path, CurrentVersion: m.CurrentVersion, OldestVersion: m.OldestVersion, MaxVersions: m.MaxVersions,
		CASRequired: m.CASRequired, CustomMetadata: m.CustomMetadata,
		CreatedAt: stamp(m.CreatedAt), UpdatedAt: stamp(m.UpdatedAt), Index: m.Index, Versions: []versionView{},
	}
	if m.DeleteVersionAfter > 0 {
		view.DeleteVersionAfter = m.DeleteVersionAfter.String()
	}
	for _, v := range m.Versions {
		view.Versions = append(view.Versions, viewVersion(v))
	}
	return view
}

func kvMetadataGet(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "get PATH",
		Short: "Show versions and settings of a secret",
		Example: `  conclave kv metadata get app/db
  conclave kv metadata get app/db --format json`,
		Args: exactArgs("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				m, err := c.Secrets.GetMetadata(ctx, args[0], client.Consistency{})
				if err != nil {
					return err
				}
				return inv.render(viewMetadata(args[0], m), func(out io.Writer) { metadataTable(out, args[0], m) })
			})
		},
	}
}

func metadataTable(out io.Writer, path string, m client.Metadata) {
	row(out, "== metadata ==")
	row(out, "path", path)
	row(out, "current version", m.CurrentVersion)
	row(out, "oldest version", m.OldestVersion)
	if m.MaxVersions == 0 {
		row(out, "max versions", "default")
	} else {
		row(out, "max versions", m.MaxVersions)
	}
	row(out, "check-and-set required", yesNo(m.CASRequired))
	if m.DeleteVersionAfter > 0 {
		row(out, "versions expire after", m.DeleteVersionAfter)
	}
	row(out, "created", shortStamp(m.CreatedAt))
	row(out, "updated", shortStamp(m.UpdatedAt))
	customRows(out, m.CustomMetadata)
	row(out)
	row(out, "VERSION", "CREATED", "STATE")
	for _, v := range m.Versions {
		row(out, v.Number, shortStamp(v.CreatedAt), versionState(v))
	}
}

func kvMetadataPut(inv *invocation) *cobra.Command {
	var o writeFlags
	var maxVersions uint64
	var casRequired, clearCustom bool
	var expireAfter time.Duration
	var custom []string
	cmd := &cobra.Command{
		Use:   "put PATH",
		Short: "Change the settings of a secret",
		Long:  "Change the settings of a secret, which need not exist yet. What is not named stays.",
		Example: `  conclave kv metadata put app/db --max-versions 20 --cas-required
  conclave kv metadata put app/db --delete-version-after 720h
  conclave kv metadata put app/db --custom owner=team-a --custom ticket=1234`,
		Args: exactArgs("PATH"),
	}
	o.add(cmd)
	f := cmd.Flags()
	f.Uint64Var(&maxVersions, "max-versions", 0, "keep `N` versions; 0: the default")
	f.BoolVar(&casRequired, "cas-required", false, "refuse writes without --cas")
	f.DurationVar(&expireAfter, "delete-version-after", 0, "new versions expire after this `DURATION`; 0: never")
	f.StringArrayVar(&custom, "custom", nil, "`NAME=TEXT` of custom metadata, repeated; replaces all of it")
	f.BoolVar(&clearCustom, "clear-custom", false, "remove all custom metadata")

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		change := client.MetadataChange{WriteOptions: o.options()}
		if f.Changed("max-versions") {
			change.MaxVersions = &maxVersions
		}
		if f.Changed("cas-required") {
			change.CASRequired = &casRequired
		}
		if f.Changed("delete-version-after") {
			if expireAfter < 0 {
				return usageError("", "--delete-version-after %v is negative", expireAfter)
			}
			change.DeleteVersionAfter = &expireAfter
		}
		var err error
		if change.CustomMetadata, err = parseCustom(custom, clearCustom); err != nil {
			return err
		}
		if change.MaxVersions == nil && change.CASRequired == nil && change.DeleteVersionAfter == nil && change.CustomMetadata == nil {
			return usageError("See '"+cmd.CommandPath()+" --help' for the settings.", "%s needs at least one setting to change", cmd.CommandPath())
		}
		return inv.withCluster(func(ctx context.Context, c *client.Client) error {
			index, err := c.Secrets.PutMetadata(ctx, args[0], change)
			if err != nil {
				return err
			}
			return inv.renderDone("changed metadata of", args[0], index)
		})
	}
	return cmd
}

// parseCustom returns nil when custom metadata stays as it is.
func parseCustom(pairs []string, clear bool) (map[string]string, error) {
	if len(pairs) > 0 && clear {
		return nil, usageError("", "--custom and --clear-custom exclude each other")
	}
	if len(pairs) == 0 && !clear {
		return nil, nil
	}
	out := map[string]string{}
	for _, pair := range pairs {
		name, text, found := strings.Cut(pair, "=")
		if !found || name == "" {
			return nil, usageError("Write --custom owner=team-a.", "--custom %q is not NAME=TEXT", pair)
		}
		out[name] = text
	}
	return out, nil
}

func kvMetadataDelete(inv *invocation) *cobra.Command {
	var o writeFlags
	cmd := &cobra.Command{
		Use:     "delete PATH",
		Short:   "Remove a secret with all its versions, for good",
		Example: `  conclave kv metadata delete app/db`,
		Args:    exactArgs("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				index, err := c.Secrets.DeleteMetadata(ctx, args[0], o.options())
				if err != nil {
					return err
				}
				return inv.renderDone("removed", args[0]+" with all its versions", index)
			})
		},
	}
	o.add(cmd)
	return cmd
}
