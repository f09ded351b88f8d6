package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

// A mountKind is one of the two kinds of mounts, which have the same commands.
type mountKind struct {
	command string // "secrets" or "auth"
	route   string // under sys/
	prefix  string // what the paths of its mounts start with elsewhere
	thing   string // what is mounted
	example string // a type
}

var mountKinds = []mountKind{
	{command: "secrets", route: "sys/mounts", thing: "secret engine", example: "kv"},
	{command: "auth", route: "sys/auth", prefix: "auth/", thing: "auth method", example: "approle"},
}

func mountCommands(inv *invocation) []*cobra.Command {
	var all []*cobra.Command
	for _, k := range mountKinds {
		cmd := group(k.command, "Enable, list, tune and disable "+k.thing+"s", "Enable, list, tune and disable "+k.thing+"s.",
			k.enable(inv), k.list(inv), k.tune(inv), k.move(inv), k.disable(inv))
		for _, sub := range cmd.Commands() {
			switch sub.Name() {
			case "tune", "move", "disable":
				sub.ValidArgsFunction = inv.offering(k.names)
			}
		}
		all = append(all, cmd)
	}
	return all
}

// names lists the mounts, which lie in no directory.
func (k mountKind) names(ctx context.Context, c *client.Client, _ string) ([]string, error) {
	mounts, _, err := k.mounts(ctx, c)
	return sortedKeys(mounts), err
}

// path is the mount's own path in requests; what the user types may have slashes
// around it, and the prefix.
func (k mountKind) path(typed string) (string, error) {
	p := strings.Trim(strings.TrimPrefix(strings.TrimPrefix(typed, "/"), k.prefix), "/")
	if p == "" {
		return "", usageError("See 'conclave "+k.command+" list'.", "the path of a mount is not empty")
	}
	return p, nil
}

// A mountRow is what is shown of a mount.
type mountRow struct {
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Accessor    string            `json:"accessor"`
	UUID        string            `json:"uuid"`
	Options     map[string]string `json:"options"`
	Config      struct {
		DefaultLeaseTTL   int64  `json:"default_lease_ttl"` // seconds; 0: the system's
		MaxLeaseTTL       int64  `json:"max_lease_ttl"`
		ListingVisibility string `json:"listing_visibility,omitempty"`
	} `json:"config"`
}

func (k mountKind) mounts(ctx context.Context, c *client.Client) (map[string]mountRow, uint64, error) {
	answer, err := c.Paths.Read(ctx, k.route, client.PathOptions{})
	if err != nil {
		return nil, 0, err
	}
	mounts := map[string]mountRow{}
	return mounts, answer.Index, answer.Decode(&mounts)
}

func (k mountKind) list(inv *invocation) *cobra.Command {
	var detailed bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the " + k.thing + "s",
		Example: fmt.Sprintf(`  conclave %s list
  conclave %s list --detailed`, k.command, k.command),
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				mounts, index, err := k.mounts(ctx, c)
				if err != nil {
					return err
				}
				view := struct {
					Mounts map[string]mountRow `json:"mounts"`
					Index  uint64              `json:"index"`
				}{mounts, index}
				return inv.render(view, func(out io.Writer) { tableMounts(out, mounts, detailed) })
			})
		},
	}
	cmd.Flags().BoolVar(&detailed, "detailed", false, "show TTLs, options and ids, too")
	return cmd
}

func tableMounts(out io.Writer, mounts map[string]mountRow, detailed bool) {
	heads := []any{"PATH", "TYPE", "ACCESSOR", "DESCRIPTION"}
	if detailed {
		heads = append(heads, "DEFAULT TTL", "MAX TTL", "OPTIONS", "ID")
	}
	row(out, heads...)
	for _, path := range sortedKeys(mounts) {
		m := mounts[path]
		cells := []any{printable(path), m.Type, m.Accessor, cell(printable(m.Description))}
		if detailed {
			cells = append(cells, ownTTL(m.Config.DefaultLeaseTTL), ownTTL(m.Config.MaxLeaseTTL), cell(printable(joinPairs(m.Options))), m.UUID)
		}
		row(out, cells...)
	}
}

func ownTTL(seconds int64) string {
	if seconds == 0 {
		return "system"
	}
	return lifetime(seconds)
}

func joinPairs(m map[string]string) string {
	var all []string
	for _, name := range sortedKeys(m) {
		all = append(all, name+"="+m[name])
	}
	return strings.Join(all, ",")
}

// mountFlags are how a mount is set up.
type mountFlags struct {
	description, visibility string
	defaultTTL, maxTTL      time.Duration
	options                 []string
	version                 uint64
}

func (o *mountFlags) add(cmd *cobra.Command, k mountKind) {
	f := cmd.Flags()
	f.StringVar(&o.description, "description", "", "`TEXT` for people")
	f.DurationVar(&o.defaultTTL, "default-ttl", 0, "leases and tokens live for `DURATION` when nothing says otherwise; 0: the system's")
	f.DurationVar(&o.maxTTL, "max-ttl", 0, "leases and tokens live for `DURATION` at most; 0: the system's")
	f.StringVar(&o.visibility, "listing-visibility", "", "`VISIBILITY` unauth, for who is not logged in, or hidden")
	f.StringArrayVar(&o.options, "option", nil, "`NAME=VALUE` of the type, repeatable")
	if k.prefix == "" {
		f.Uint64Var(&o.version, "version", 0, "of kv: `N` 1 or 2; 2 keeps versions")
		complete(cmd, "version", "1", "2")
	}
	complete(cmd, "listing-visibility", "unauth", "hidden")
}

// config is what was said of the mount, as a body has it.
func (o *mountFlags) config(cmd *cobra.Command) (map[string]any, error) {
	out := map[string]any{}
	for flag, d := range map[string]time.Duration{"default-ttl": o.defaultTTL, "max-ttl": o.maxTTL} {
		if d < 0 {
			return nil, usageError("", "--%s %v is negative", flag, d)
		}
		if changed(cmd, flag) {
			out[map[string]string{"default-ttl": "default_lease_ttl", "max-ttl": "max_lease_ttl"}[flag]] = d.String()
		}
	}
	if changed(cmd, "listing-visibility") {
		out["listing_visibility"] = o.visibility
	}
	if changed(cmd, "description") {
		out["description"] = o.description
	}
	options, err := pairs("option", o.options)
	if err != nil {
		return nil, err
	}
	if o.version > 0 {
		options["version"] = fmt.Sprint(o.version)
	}
	if len(options) > 0 {
		out["options"] = options
	}
	return out, nil
}

func (k mountKind) enable(inv *invocation) *cobra.Command {
	var o mountFlags
	var path string
	cmd := &cobra.Command{
		Use:   "enable TYPE",
		Short: "Mount a " + k.thing,
		Example: fmt.Sprintf(`  conclave %s enable %s
  conclave %s enable %s --path team --description "of the team" --max-ttl 24h`, k.command, k.example, k.command, k.example),
		Args: exactArgs("TYPE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if path == "" {
				path = args[0]
			}
			mount, err := k.path(path)
			if err != nil {
				return err
			}
			config, err := o.config(cmd)
			if err != nil {
				return err
			}
			body := map[string]any{"type": args[0], "config": config}
			for _, name := range []string{"description", "options"} {
				if v, given := config[name]; given {
					body[name] = v
					delete(config, name)
				}
			}
			return inv.answering(fmt.Sprintf("enabled %s %s at %s%s/", k.thing, args[0], k.prefix, mount), "", func(ctx context.Context, p client.Paths) (*client.Answer, error) {
				return p.Write(ctx, k.route+"/"+mount, body, client.PathOptions{})
			})
		},
	}
	if k.prefix == "" {
		cmd.Example += "\n  conclave secrets enable kv --version 2 --path team"
	}
	cmd.Flags().StringVar(&path, "path", "", "mount it at `PATH` (default: TYPE)")
	o.add(cmd, k)
	return cmd
}

func (k mountKind) tune(inv *invocation) *cobra.Command {
	var o mountFlags
	cmd := &cobra.Command{
		Use:   "tune PATH",
		Short: "Change how a mount is set up, or show it",
		Long:  "Change how a mount is set up. Without a flag it shows the settings, the system's where the mount has none.",
		Example: fmt.Sprintf(`  conclave %s tune team --default-ttl 1h --max-ttl 24h
  conclave %s tune team`, k.command, k.command),
		Args: exactArgs("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			mount, err := k.path(args[0])
			if err != nil {
				return err
			}
			config, err := o.config(cmd)
			if err != nil {
				return err
			}
			return inv.answering("tuned "+k.prefix+mount+"/", "", func(ctx context.Context, p client.Paths) (*client.Answer, error) {
				if len(config) == 0 {
					return p.Read(ctx, k.route+"/"+mount+"/tune", client.PathOptions{})
				}
				return p.Write(ctx, k.route+"/"+mount+"/tune", config, client.PathOptions{})
			})
		},
	}
	o.add(cmd, k)
	return cmd
}

func (k mountKind) move(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:     "move FROM TO",
		Short:   "Move a mount to another path, at once, with all that lies in it",
		Long:    "Move a mount to another path, at once, with all that lies in it. Policies name paths and do not move with it.",
		Example: fmt.Sprintf("  conclave %s move team people", k.command),
		Args:    exactArgs("FROM", "TO"),
		RunE: func(_ *cobra.Command, args []string) error {
			from, err := k.path(args[0])
			if err != nil {
				return err
			}
			to, err := k.path(args[1])
			if err != nil {
				return err
			}
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				answer, err := c.Paths.Write(ctx, "sys/remount", map[string]string{"from": k.prefix + from, "to": k.prefix + to}, client.PathOptions{})
				if err != nil {
					return err
				}
				inv.warn(answer.Warnings)
				return inv.renderDone("moved", fmt.Sprintf("%s%s/ to %s%s/", k.prefix, from, k.prefix, to), answer.Index)
			})
		},
	}
}

func (k mountKind) disable(inv *invocation) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "disable PATH",
		Short: "End a mount, with all that lies in it",
		Long: "End a mount, with its tokens and leases and all that lies in it, for good. On a\n" +
			"terminal it asks first; elsewhere it needs --yes.",
		Example: fmt.Sprintf(`  conclave %s disable team
  conclave %s disable team --yes`, k.command, k.command),
		Args: exactArgs("PATH"),
		RunE: func(_ *cobra.Command, args []string) error {
			mount, err := k.path(args[0])
			if err != nil {
				return err
			}
			if err := inv.confirm(yes, fmt.Sprintf("ends %s%s/ with all that lies in it, for good", k.prefix, mount)); err != nil {
				return err
			}
			return inv.answering("disabled "+k.prefix+mount+"/", "", func(ctx context.Context, p client.Paths) (*client.Answer, error) {
				// To end what is not there is no mistake to the API, but here it is one
				// of typing.
				if _, err := p.Read(ctx, k.route+"/"+mount, client.PathOptions{}); err != nil && exitCode(err) != exitDenied {
					return nil, err
				}
				return p.Delete(ctx, k.route+"/"+mount, client.PathOptions{})
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}
