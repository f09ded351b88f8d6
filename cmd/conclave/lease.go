package main

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

func leaseCommand(inv *invocation) *cobra.Command {
	cmd := group("lease", "Grant, renew and end leases", "Grant, renew and end leases.",
		leaseGrant(inv), leaseRenew(inv), leaseRevoke(inv), leaseLookup(inv), leaseList(inv), leaseTree(inv))
	completeNames(cmd, inv.offering(leaseNames))
	return cmd
}

// leaseView is a lease in JSON and YAML.
type leaseView struct {
	ID           string         `json:"id"`
	State        string         `json:"state"`
	IssuedAt     string         `json:"issued_at,omitempty"`
	ExpiresAt    string         `json:"expires_at,omitempty"`
	MaxExpiresAt string         `json:"max_expires_at,omitempty"`
	Owner        string         `json:"owner,omitempty"`
	Generation   uint64         `json:"generation"`
	Data         map[string]any `json:"data,omitempty"`
	Index        uint64         `json:"index"`
}

func viewLease(l client.Lease) leaseView {
	return leaseView{l.ID, l.State, stamp(l.IssuedAt), stamp(l.ExpiresAt), stamp(l.MaxExpiresAt), l.Owner, l.Generation, dataView(l.Data), l.Index}
}

func (inv *invocation) renderLease(l client.Lease) error {
	return inv.render(viewLease(l), func(out io.Writer) {
		row(out, "id", l.ID)
		row(out, "state", l.State)
		row(out, "issued", shortStamp(l.IssuedAt))
		row(out, "expires", shortStamp(l.ExpiresAt))
		row(out, "expires at most", shortStamp(l.MaxExpiresAt))
		row(out, "owner", cell(l.Owner))
		row(out, "generation", l.Generation)
		for _, name := range slices.Sorted(maps.Keys(l.Data)) {
			row(out, "data "+printable(name), fieldCell(l.Data[name]))
		}
	})
}

func leaseGrant(inv *invocation) *cobra.Command {
	var o writeFlags
	var request client.LeaseRequest
	cmd := &cobra.Command{
		Use:   "grant PREFIX [FIELD...]",
		Short: "Grant a lease under a prefix",
		Long:  "Grant a lease under a prefix. It ends by itself unless it is renewed.\n\n" + fieldsHelp,
		Example: `  conclave lease grant jobs/nightly --ttl 10m
  conclave lease grant jobs/nightly --ttl 10m --max-ttl 24h host=db1`,
		Args: atLeast("PREFIX"),
		RunE: func(_ *cobra.Command, args []string) error {
			if request.TTL <= 0 || request.MaxTTL < 0 {
				return usageError("Use durations such as --ttl 10m --max-ttl 24h.", "a lease needs a positive --ttl and no negative --max-ttl")
			}
			var err error
			if request.Data, err = parseFields(args[1:], inv.in); err != nil {
				return err
			}
			request.Prefix, request.WriteOptions = args[0], o.options()
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				lease, err := c.Leases.Grant(ctx, request)
				if err != nil {
					return err
				}
				return inv.renderLease(lease)
			})
		},
	}
	o.add(cmd)
	cmd.Flags().DurationVar(&request.TTL, "ttl", time.Hour, "the lease ends after this `DURATION`")
	cmd.Flags().DurationVar(&request.MaxTTL, "max-ttl", 0, "no renewal goes past this `DURATION` from now; 0: the server's bound")
	cmd.Flags().StringVar(&request.Owner, "owner", "", "the lease with `ID`: when it ends, this one ends too")
	return cmd
}

func leaseRenew(inv *invocation) *cobra.Command {
	var o writeFlags
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "renew ID",
		Short: "Move the end of a lease",
		Example: `  conclave lease renew jobs/nightly/dqkrexe2hnqpvvoucnjo2rp4
  conclave lease renew jobs/nightly/dqkrexe2hnqpvvoucnjo2rp4 --ttl 30m`,
		Args: exactArgs("ID"),
		RunE: func(_ *cobra.Command, args []string) error {
			if ttl < 0 {
				return usageError("", "--ttl %v is negative", ttl)
			}
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				lease, err := c.Leases.Renew(ctx, args[0], ttl, o.options())
				if err != nil {
					return err
				}
				return inv.renderLease(lease)
			})
		},
	}
	o.add(cmd)
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "the lease ends `DURATION` from now; 0: what it was granted with")
	return cmd
}

func leaseRevoke(inv *invocation) *cobra.Command {
	var o writeFlags
	var prefix bool
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "End a lease and what it owns",
		Long:  "End a lease and what it owns; with --prefix every lease under it.",
		Example: `  conclave lease revoke jobs/nightly/dqkrexe2hnqpvvoucnjo2rp4
  conclave lease revoke --prefix jobs/nightly`,
		Args: exactArgs("ID"),
		RunE: func(_ *cobra.Command, args []string) error {
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				revoke, what := c.Leases.Revoke, "revoked lease"
				if prefix {
					revoke, what = c.Leases.RevokePrefix, "revoked every lease under"
				}
				index, err := revoke(ctx, args[0], o.options())
				if err != nil {
					return err
				}
				return inv.renderDone(what, args[0], index)
			})
		},
	}
	o.add(cmd)
	cmd.Flags().BoolVar(&prefix, "prefix", false, "ID is a prefix: end every lease under it")
	return cmd
}

func leaseLookup(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:     "lookup ID",
		Short:   "Show a lease with its data",
		Example: `  conclave lease lookup jobs/nightly/dqkrexe2hnqpvvoucnjo2rp4`,
		Args:    exactArgs("ID"),
		RunE: func(_ *cobra.Command, args []string) error {
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				lease, err := c.Leases.Lookup(ctx, args[0], client.Consistency{})
				if err != nil {
					return err
				}
				return inv.renderLease(lease)
			})
		},
	}
}

func leaseList(inv *invocation) *cobra.Command {
	var within time.Duration
	var order string
	cmd := &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List leases under a prefix",
		Long: `List leases under a prefix.

With --expiring-within only those that end soon, of which only as many are looked at:
that is quick among a million.`,
		Example: `  conclave lease list
  conclave lease list jobs/nightly --format json
  conclave lease list database/creds --expiring-within 10m`,
		Args: atMostOne,
		RunE: func(_ *cobra.Command, args []string) error {
			by, err := leaseOrder(order, within)
			if err != nil {
				return err
			}
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				leases, index, err := allLeases(ctx, c, strings.Join(args, ""), within)
				if err != nil {
					return err
				}
				slices.SortFunc(leases, by)
				return inv.renderLeases(leases, index)
			})
		},
	}
	cmd.Flags().DurationVar(&within, "expiring-within", 0, "only leases that end within this `DURATION`")
	cmd.Flags().StringVar(&order, "sort", "", "`ORDER` of the leases: id, expires or issued (default: id, or expires with --expiring-within)")
	complete(cmd, "sort", leaseOrders...)
	return cmd
}

func leaseTree(inv *invocation) *cobra.Command {
	var root client.LeaseRoot
	cmd := &cobra.Command{
		Use:   "tree [ID]",
		Short: "Show what ends with a token or a lease",
		Long: `Show what ends with a token or a lease: what it owns, what that owns, and so on.

Without ID and --accessor it is the token that the command uses. A token is named by its
accessor and never by its text.`,
		Example: `  conclave lease tree
  conclave lease tree jobs/nightly/dqkrexe2hnqpvvoucnjo2rp4
  conclave lease tree --accessor ACCESSOR`,
		Args: atMostOne,
		RunE: func(_ *cobra.Command, args []string) error {
			if root.ID = strings.Join(args, ""); root.ID != "" && root.Accessor != "" {
				return usageError("", "a tree begins with ID or with --accessor, not with both")
			}
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				tree, err := c.Leases.Tree(ctx, root, client.Consistency{})
				if err != nil {
					return err
				}
				return inv.renderTree(tree)
			})
		},
	}
	cmd.Flags().StringVar(&root.Accessor, "accessor", "", "begin with the token of this `ACCESSOR`")
	return cmd
}

// nodeView is a node of a tree in JSON and YAML.
type nodeView struct {
	Depth       int    `json:"depth"`
	Lease       string `json:"lease,omitempty"`
	Accessor    string `json:"accessor,omitempty"`
	DisplayName string `json:"display_name,omitempty"`
	State       string `json:"state"`
	ExpiresAt   string `json:"expires_at,omitempty"`
}

func (inv *invocation) renderTree(tree client.LeaseTree) error {
	view := struct {
		Nodes []nodeView `json:"nodes"`
		More  bool       `json:"more"`
		Index uint64     `json:"index"`
	}{[]nodeView{}, tree.More, tree.Index}
	for _, n := range tree.Nodes {
		view.Nodes = append(view.Nodes, nodeView{n.Depth, n.ID, n.Accessor, n.DisplayName, n.State, stamp(n.ExpiresAt)})
	}
	return inv.render(view, func(out io.Writer) {
		row(out, "LEASE OR TOKEN", "STATE", "EXPIRES")
		for _, n := range tree.Nodes {
			name := n.ID
			if name == "" {
				name = "token " + n.Accessor + " (" + printable(n.DisplayName) + ")"
			}
			row(out, strings.Repeat("  ", n.Depth)+name, n.State, shortStamp(n.ExpiresAt))
		}
		if tree.More {
			row(out, "… and more", "", "")
		}
	})
}

var leaseOrders = []string{"id", "expires", "issued"}

// leaseOrder is how leases are to be sorted.
func leaseOrder(order string, within time.Duration) (func(a, b client.Lease) int, error) {
	byID := func(a, b client.Lease) int { return cmp.Compare(a.ID, b.ID) }
	if order == "" && within > 0 {
		order = "expires"
	}
	switch {
	case within < 0:
		return nil, usageError("", "--expiring-within %v is negative", within)
	case order == "" || order == "id":
		return byID, nil
	case order == "expires":
		return func(a, b client.Lease) int { return cmp.Or(a.ExpiresAt.Compare(b.ExpiresAt), byID(a, b)) }, nil
	case order == "issued":
		return func(a, b client.Lease) int { return cmp.Or(a.IssuedAt.Compare(b.IssuedAt), byID(a, b)) }, nil
	}
	return nil, usageError("Use one of "+strings.Join(leaseOrders, ", ")+".", "leases cannot be sorted by %q", order)
}

func (inv *invocation) renderLeases(leases []client.Lease, index uint64) error {
	view := struct {
		Leases []leaseView `json:"leases"`
		Index  uint64      `json:"index"`
	}{[]leaseView{}, index}
	for _, l := range leases {
		view.Leases = append(view.Leases, viewLease(l))
	}
	return inv.render(view, func(out io.Writer) {
		row(out, "ID", "STATE", "EXPIRES", "OWNER")
		for _, l := range leases {
			row(out, l.ID, l.State, shortStamp(l.ExpiresAt), cell(l.Owner))
		}
	})
}

// allLeases reads page after page; index is that of the first.
func allLeases(ctx context.Context, c *client.Client, prefix string, within time.Duration) (leases []client.Lease, index uint64, err error) {
	o := client.LeaseWalk{ExpiringWithin: within}
	for {
		page, err := c.Leases.Walk(ctx, prefix, o)
		if err != nil {
			return nil, 0, err
		}
		if index == 0 {
			index = page.Index
		}
		leases = append(leases, page.Leases...)
		if !page.More {
			return leases, index, nil
		}
		o.Cursor = page.Cursor
	}
}
