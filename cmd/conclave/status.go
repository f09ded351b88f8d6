package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

// The exit codes of "conclave status", the only command with its own: 0 is
// unsealed.
const (
	exitStatusError  = 1
	exitStatusSealed = 2
)

// statusView is a node's status in JSON and YAML.
type statusView struct {
	Initialized      bool     `json:"initialized"`
	Sealed           bool     `json:"sealed"`
	Shares           int      `json:"shares"`
	Threshold        int      `json:"threshold"`
	ShareIndexes     []uint32 `json:"share_indexes"`
	ShareGeneration  uint32   `json:"share_generation"`
	ClusterID        string   `json:"cluster_id,omitempty"`
	NodeID           string   `json:"node_id"`
	Role             string   `json:"role"`
	LeaderID         string   `json:"leader_id,omitempty"`
	LeaderAPIAddress string   `json:"leader_api_address,omitempty"`
	Term             uint64   `json:"term"`
	CommitIndex      uint64   `json:"commit_index"`
	AppliedIndex     uint64   `json:"applied_index"`
	StateHash        string   `json:"state_hash,omitempty"`
	Version          string   `json:"version"`
}

func viewStatus(s client.NodeStatus) statusView {
	indexes := s.ShareIndexes
	if indexes == nil {
		indexes = []uint32{}
	}
	return statusView{s.Initialized, s.Sealed, s.Shares, s.Threshold, indexes, s.ShareGeneration, s.ClusterID, s.NodeID,
		s.Role, s.LeaderID, s.LeaderAPIAddress, s.Term, s.CommitIndex, s.AppliedIndex, s.StateHash, s.Version}
}

func statusCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the state of one node",
		Long: `Show the state of one node, the first of --address. It needs no token.

Exit codes: 0 unsealed, 2 sealed or not initialised, 1 error.`,
		Example: `  conclave status
  conclave status --address node2.example.org:8210 --format json`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			err := inv.withNode(inv.showStatus)
			var silent exitWith
			if err == nil || errors.As(err, &silent) {
				return err
			}
			return &failure{exitStatusError, err, hint(err)}
		},
	}
}

func (inv *invocation) showStatus(ctx context.Context, c *client.Client) error {
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if err := inv.render(viewStatus(s), func(out io.Writer) { statusTable(out, s) }); err != nil {
		return err
	}
	if s.Sealed || !s.Initialized {
		return exitWith(exitStatusSealed)
	}
	return nil
}

func statusTable(out io.Writer, s client.NodeStatus) {
	row(out, "node", cell(s.NodeID))
	row(out, "version", cell(s.Version))
	row(out, "initialised", yesNo(s.Initialized))
	row(out, "sealed", yesNo(s.Sealed))
	if !s.Initialized {
		return
	}
	if s.Sealed {
		row(out, "unseal progress", progress(s.ShareIndexes, s.Threshold))
	}
	row(out, "shares", fmt.Sprintf("%d, any %d unseal (generation %d)", s.Shares, s.Threshold, s.ShareGeneration))
	row(out, "cluster", cell(s.ClusterID))
	row(out, "role", cell(s.Role))
	leader := s.LeaderID
	if s.LeaderAPIAddress != "" {
		leader += " at " + s.LeaderAPIAddress
	}
	if leader == "" {
		leader = "none"
	}
	row(out, "leader", leader)
	row(out, "term", s.Term)
	row(out, "commit index", s.CommitIndex)
	row(out, "applied index", s.AppliedIndex)
	row(out, "state hash", cell(s.StateHash))
}

// progress tells how far a ceremony is: "2 of 3 shares (1, 4)".
func progress(given []uint32, threshold int) string {
	text := fmt.Sprintf("%d of %d shares", len(given), threshold)
	if len(given) == 0 {
		return text
	}
	var numbers []string
	for _, n := range given {
		numbers = append(numbers, fmt.Sprint(n))
	}
	return text + " (" + strings.Join(numbers, ", ") + ")"
}
