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

func operatorCommand(inv *invocation) *cobra.Command {
	cmd := group("operator", "Initialise, unseal and run a cluster",
		"Initialise, unseal and run a cluster. init, unseal and seal speak to ONE node:\nthe first of --address.",
		operatorInit(inv), operatorUnseal(inv), operatorSeal(inv), operatorJoinToken(inv),
		operatorMembers(inv), operatorRemove(inv), operatorTransfer(inv))
	completeNames(cmd, inv.offering(nodeNames))
	return cmd
}

func operatorInit(inv *invocation) *cobra.Command {
	var request client.InitRequest
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Start a new cluster on one node",
		Long: `Start a new cluster on one node, the first of --address: make the root key,
its shares, the cluster's authority and the root token.

Shares and token are shown ONCE and exist nowhere on disk. Give each share to
another custodian. With --age-recipient, once per share, each is encrypted to
its custodian, who decrypts it with 'age -d'.`,
		Example: `  conclave operator init
  conclave operator init --shares 7 --threshold 4 --format json
  conclave operator init --shares 1 --threshold 1 --age-recipient age1qwerty`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			if n := len(request.AgeRecipients); n != 0 && n != request.Shares {
				return usageError("Repeat --age-recipient once for each share, in their order.",
					"%d age recipients for %d shares", n, request.Shares)
			}
			if request.Shares < 1 || request.Shares > 255 || request.Threshold < 1 || request.Threshold > request.Shares ||
				(request.Threshold == 1 && request.Shares > 1) {
				return usageError("Use 1 to 255 shares and a threshold from 2 to their number (1 only for one share).",
					"%d of %d shares is no way to share a key", request.Threshold, request.Shares)
			}
			return inv.withNode(func(ctx context.Context, c *client.Client) error {
				result, err := c.Operator.Init(ctx, request)
				if err != nil {
					return err
				}
				return inv.renderInit(result, len(request.AgeRecipients) > 0)
			})
		},
	}
	cmd.Flags().IntVar(&request.Shares, "shares", 5, "make `N` shares of the root key")
	cmd.Flags().IntVar(&request.Threshold, "threshold", 3, "`N` of them unseal a node")
	cmd.Flags().StringArrayVar(&request.AgeRecipients, "age-recipient", nil, "age `RECIPIENT` to whom a share is encrypted; once per share")
	return cmd
}

func (inv *invocation) renderInit(r client.InitResult, encrypted bool) error {
	view := struct {
		ClusterID string   `json:"cluster_id"`
		Shares    []string `json:"shares"`
		Threshold int      `json:"threshold"`
		RootToken string   `json:"root_token"`
		CAPEM     string   `json:"ca_pem"`
	}{r.ClusterID, []string{}, r.Threshold, r.RootToken.Reveal(), string(r.CAPEM)}
	for _, s := range r.Shares {
		view.Shares = append(view.Shares, s.Reveal())
	}
	return inv.render(view, func(out io.Writer) {
		for i, share := range view.Shares {
			if encrypted {
				row(out, fmt.Sprintf("Share %d, for its custodian:\n%s", i+1, strings.TrimSpace(share)))
			} else {
				row(out, fmt.Sprintf("Share %d:", i+1), share)
			}
		}
		row(out)
		row(out, "Root token:", view.RootToken)
		row(out, "Cluster:", view.ClusterID)
		row(out)
		row(out, fmt.Sprintf("Any %d of the %d shares unseal a node: conclave operator unseal", r.Threshold, len(view.Shares)))
		row(out, "They and the token are shown this once and are kept nowhere. Without enough\nshares the secrets cannot be read again.")
		row(out, "The node's ca.pem is now that of the cluster: clients must read it again.")
	})
}

func operatorSeal(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "seal",
		Short: "Make one node forget its keys",
		Long: `Make one node, the first of --address, forget its keys. It goes on to vote and
replicate; it serves again after 'conclave operator unseal'.`,
		Example: `  conclave operator seal --address node2.example.org:8210`,
		Args:    exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			return inv.withNode(func(ctx context.Context, c *client.Client) error {
				if err := c.Operator.Seal(ctx); err != nil {
					return err
				}
				return inv.render(map[string]bool{"sealed": true}, func(out io.Writer) { row(out, "The node is sealed.") })
			})
		},
	}
}

func operatorJoinToken(inv *invocation) *cobra.Command {
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "join-token",
		Short: "Make a token with which one new node can join once",
		Example: `  conclave operator join-token
  conclave operator join-token --ttl 10m --format json`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			if ttl <= 0 {
				return usageError("Use a duration such as 1h.", "--ttl %v is not positive", ttl)
			}
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				token, err := c.Operator.CreateJoinToken(ctx, ttl)
				if err != nil {
					return err
				}
				view := struct {
					Token     string `json:"token"`
					ExpiresAt string `json:"expires_at"`
				}{token.Token.Reveal(), stamp(token.ExpiresAt)}
				return inv.render(view, func(out io.Writer) {
					row(out, "Join token:", view.Token)
					row(out, "Expires:", shortStamp(token.ExpiresAt))
					row(out)
					row(out, "On the new node, with the token in CONCLAVE_JOIN_TOKEN:")
					row(out, "  conclave server --data-dir DIR --join "+inv.nodes()[0])
				})
			})
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "the token expires after this `DURATION`")
	return cmd
}

func operatorRemove(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NODE-ID",
		Short: "Take a node out of the cluster",
		Example: `  conclave operator members
  conclave operator remove n4f275002e0d6`,
		Args: exactArgs("NODE-ID"),
		RunE: func(_ *cobra.Command, args []string) error {
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				if err := c.Operator.RemoveMember(ctx, args[0]); err != nil {
					return err
				}
				return inv.render(map[string]string{"removed": args[0]}, func(out io.Writer) { row(out, "removed "+args[0]) })
			})
		},
	}
}

func operatorTransfer(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "transfer [NODE-ID]",
		Short: "Hand leadership to another voter",
		Long:  "Hand leadership to the named voter, or to the best candidate.",
		Example: `  conclave operator transfer
  conclave operator transfer n4f275002e0d6`,
		Args: atMostOne,
		RunE: func(_ *cobra.Command, args []string) error {
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				leader, err := c.Operator.TransferLeadership(ctx, strings.Join(args, ""))
				if err != nil {
					return err
				}
				return inv.render(map[string]string{"leader_id": leader}, func(out io.Writer) { row(out, "leader", leader) })
			})
		},
	}
}
