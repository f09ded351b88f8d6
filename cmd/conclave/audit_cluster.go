package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/client"
)

// clusterAnchors asks the cluster for the anchors of the log in files. It must come
// before the files are read: what is anchored is in them by then.
func (inv *invocation) clusterAnchors(files []string) (heads []audit.Head, err error) {
	node, _, err := audit.Origin(audit.Disk, files)
	if err != nil {
		return nil, &failure{exitServer, err, "See whether the file can be read."}
	}
	if node == "" {
		return nil, &failure{exitConflict, fmt.Errorf("no header in %s can be read, so nothing says whose log it is", strings.Join(files, ", ")),
			"Verify it without --cluster to see the damage."}
	}
	err = inv.withCluster(func(ctx context.Context, c *client.Client) error {
		answer, err := c.Paths.Read(ctx, "sys/audit/anchors", client.PathOptions{})
		if err != nil {
			return err
		}
		var known struct {
			Nodes map[string][]struct {
				Seq  uint64
				Hash audit.Hash
				Time time.Time
			}
		}
		if err := answer.Decode(&known); err != nil {
			return err
		}
		for _, a := range known.Nodes[node] {
			heads = append(heads, audit.Head{Seq: a.Seq, Hash: a.Hash})
		}
		return nil
	})
	if err == nil && len(heads) == 0 {
		err = &failure{exitNotFound, fmt.Errorf("the cluster has no anchor of the log of node %s", node),
			"See whether the node is a member of this cluster: conclave operator members."}
	}
	return heads, err
}

// auditHashPath is where nodes hash values.
const auditHashPath = "sys/audit-hash/"

// auditHash has a node hash a value as the audit log does.
func (inv *invocation) auditHash(value string) (hash string, err error) {
	err = inv.withCluster(func(ctx context.Context, c *client.Client) error {
		answer, err := c.Paths.Write(ctx, auditHashPath+"file", map[string]string{"input": value}, client.PathOptions{})
		if err != nil {
			return err
		}
		var out struct{ Hash string }
		if err := answer.Decode(&out); err != nil {
			return err
		}
		hash = out.Hash
		return nil
	})
	return hash, err
}

func auditHashCommand(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "hash",
		Short: "Show a value as audit logs do",
		Long: "Reads a value from standard input or the prompt, without the end of its line, and prints the keyed hash that stands\n" +
			"for it in the audit logs of the cluster. The key never leaves the nodes. 'conclave audit query --value' searches\n" +
			"for it at once.",
		Example: `  printf %s "$LEAKED" | conclave audit hash
  conclave audit hash`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error {
			value, err := inv.credential("value", "")
			if err != nil {
				return err
			}
			hash, err := inv.auditHash(value)
			if err != nil {
				return err
			}
			return inv.render(map[string]string{"hash": hash}, func(w io.Writer) { row(w, hash) })
		},
	}
}
