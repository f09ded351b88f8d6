package testprocess_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// A sealed node is a full replica: after a restart of all three, one unsealed
// node serves, while the sealed ones vote, persist and apply; and a sealed
// leader hands over to the unsealed voter.
func TestSealedNodesReplicate(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 3})
	mustPut(t, clientOf(t, c), "kept/before", "old")
	restart(t, c, (*testprocess.Node).Terminate)
	open, sealed := c.Nodes[1], []*testprocess.Node{c.Nodes[0], c.Nodes[2]}
	if err := open.Unseal(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	cl := clientOf(t, c, open)

	t.Run("the unsealed node serves and comes to lead", func(t *testing.T) {
		wantValue(t, cl, "kept/before", "old")
		eventually(t, "leadership goes to the unsealed voter", func(ctx context.Context) error {
			s, err := statusOf(ctx, c, open)
			if err == nil && s.Role != "leader" {
				err = fmt.Errorf("it is a %s", s.Role)
			}
			return err
		})
	})

	t.Run("the sealed nodes apply and agree", func(t *testing.T) {
		before, err := statusOf(within(t, patience), c, sealed[0])
		if err != nil {
			t.Fatal(err)
		}
		var last client.Written
		for i := range 50 {
			last = mustPut(t, cl, "kept/after", fmt.Sprint(i))
		}
		awaitAgreement(t, c, max(last.Index, before.AppliedIndex+50))
		for _, n := range sealed {
			wantSealed(t, c, n)
		}
	})

	t.Run("the vote and the disk of a sealed node count", func(t *testing.T) {
		if err := sealed[0].Kill(); err != nil {
			t.Fatal(err)
		}
		mustPut(t, cl, "kept/quorum", "of one unsealed and one sealed")
		if err := sealed[0].Start(); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("two sealed nodes elect a leader without the unsealed one", func(t *testing.T) {
		awaitAgreement(t, c, 1)
		if err := open.Kill(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a sealed leader", func(ctx context.Context) error {
			return oneLeads(ctx, c, sealed)
		})
		if err := open.Start(); err != nil {
			t.Fatal(err)
		}
		if err := open.Unseal(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		wantValue(t, cl, "kept/quorum", "of one unsealed and one sealed")
		mustPut(t, cl, "kept/through-a-sealed-leader", "yes")
		eventually(t, "leadership comes back to the unsealed voter", func(ctx context.Context) error {
			return oneLeads(ctx, c, []*testprocess.Node{open})
		})
	})

	t.Run("what sealed nodes persisted is read by another after a crash of all", func(t *testing.T) {
		restart(t, c, (*testprocess.Node).Kill)
		if err := sealed[1].Unseal(within(t, patience)); err != nil {
			t.Fatal(err)
		}
		other := clientOf(t, c, sealed[1])
		wantValue(t, other, "kept/after", "49")
		wantValue(t, other, "kept/quorum", "of one unsealed and one sealed")
		wantValue(t, other, "kept/through-a-sealed-leader", "yes")
		awaitAgreement(t, c, 1)
	})
}

// restart ends all nodes and starts them again, sealed.
func restart(t *testing.T, c *testprocess.Cluster, end func(*testprocess.Node) error) {
	t.Helper()
	for _, n := range c.Nodes {
		if err := end(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range c.Nodes {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
}

func wantSealed(t *testing.T, c *testprocess.Cluster, n *testprocess.Node) {
	t.Helper()
	s, err := statusOf(within(t, patience), c, n)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Sealed {
		t.Errorf("%s is unsealed", n.Name)
	}
	_, err = clientOf(t, c, n).Secrets.Get(within(t, patience), "kept/before", client.GetOptions{})
	if !errors.Is(err, client.ErrSealed) {
		t.Errorf("%s answers %v, want ErrSealed", n.Name, err)
	}
}

// oneLeads returns nil when one of nodes leads.
func oneLeads(ctx context.Context, c *testprocess.Cluster, nodes []*testprocess.Node) error {
	for _, n := range nodes {
		s, err := statusOf(ctx, c, n)
		if err != nil {
			return err
		}
		if s.Role == "leader" {
			return nil
		}
	}
	return errors.New("none of them leads")
}
