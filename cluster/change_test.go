package cluster_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/cluster/clustertest"
)

// Any node can be asked to change the cluster; the leader does it, and a leader
// that is to be removed hands over first.
func TestChangeFromAnyNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 1, 3, nil)
		defer c.Close()
		leader := c.Leader().Node
		follower := c.Follower().Node
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := follower.Change(ctx, cluster.Change{Kind: cluster.ChangeRemove, ID: "nobody"}); !errors.Is(err, cluster.ErrUnknownMember) {
			t.Errorf("removing a stranger: got %v, want ErrUnknownMember", err)
		}
		gone := leader.Stats().ID
		if err := follower.Change(ctx, cluster.Change{Kind: cluster.ChangeRemove, ID: gone}); err != nil {
			t.Fatalf("removing the leader: %v", err)
		}
		for _, m := range follower.Members() {
			if m.ID == gone {
				t.Errorf("%s is still a member", gone)
			}
		}
		if err := follower.Change(ctx, cluster.Change{Kind: cluster.ChangeAdd, ID: "late", Address: "late"}); err != nil {
			t.Errorf("adding a node: %v", err)
		}
	})
}
