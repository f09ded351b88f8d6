package main

import (
	"context"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

// memberView is a member in JSON and YAML.
type memberView struct {
	ID            string `json:"id"`
	Role          string `json:"role"`
	Voter         bool   `json:"voter"`
	Sealed        bool   `json:"sealed"`
	Alive         bool   `json:"alive"`
	APIAddress    string `json:"api_address"`
	PeerAddress   string `json:"peer_address"`
	GossipAddress string `json:"gossip_address"`
	AppliedIndex  uint64 `json:"applied_index"`
	Lag           uint64 `json:"lag"`
	Version       string `json:"version"`
}

func viewMember(m client.Member) memberView {
	return memberView{m.ID, memberRole(m), m.Voter, m.Sealed, m.Alive, m.APIAddress, m.PeerAddress, m.GossipAddress, m.AppliedIndex, m.Lag, m.Version}
}

func memberRole(m client.Member) string {
	switch {
	case m.Leader:
		return "leader"
	case m.Voter:
		return "follower"
	}
	return "non-voter"
}

func operatorMembers(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "List the nodes of the cluster",
		Example: `  conclave operator members
  conclave operator members --format json`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			return inv.withCluster(func(ctx context.Context, c *client.Client) error {
				members, index, err := c.Operator.Members(ctx)
				if err != nil {
					return err
				}
				return inv.renderMembers(members, index)
			})
		},
	}
}

func (inv *invocation) renderMembers(members []client.Member, index uint64) error {
	view := struct {
		Members []memberView `json:"members"`
		Index   uint64       `json:"index"`
	}{[]memberView{}, index}
	for _, m := range members {
		view.Members = append(view.Members, viewMember(m))
	}
	return inv.render(view, func(out io.Writer) {
		row(out, "NODE", "ROLE", "VOTER", "ALIVE", "SEALED", "API", "PEER", "LAG", "VERSION")
		for _, m := range view.Members {
			sealed, lag := yesNo(m.Sealed), strconv.FormatUint(m.Lag, 10)
			if !m.Alive { // nobody could ask it
				sealed, lag = cell(""), cell("")
			}
			row(out, m.ID, m.Role, yesNo(m.Voter), yesNo(m.Alive), sealed, cell(m.APIAddress), m.PeerAddress, lag, cell(m.Version))
		}
	})
}
