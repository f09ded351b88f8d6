package cluster_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/cluster/clustertest"
)

// A leader that a minority of the voters takes for gone stays: a host that refuses
// some of the others is no reason for an election.
func TestMinorityDeposesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 31, 5, nil)
		defer c.Close()
		l := c.Leader()
		propose(t, l.Node, put("k", "1"))
		term := l.Node.Stats().Term
		mistaken := 0
		for _, r := range c.Replicas {
			if r != l && mistaken < 2 {
				cluster.SeeDeparted(r.Node, cluster.Peer{ID: l.ID, Address: l.ID})
				mistaken++
			}
		}
		<-time.After(5 * time.Second)
		if now := c.Leader(); now != l || l.Node.Stats().Term != term {
			t.Errorf("%s leads in term %d, %s led in term %d", now.ID, now.Node.Stats().Term, l.ID, term)
		}
		propose(t, l.Node, put("k", "2"))
	})
}

// A quorum that is mistaken deposes a leader that lives, which is an election like
// any other: one leader follows, and nothing is lost.
func TestMistakenQuorumLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 32, 5, nil)
		defer c.Close()
		l := c.Leader()
		propose(t, l.Node, put("k", "1"))
		for _, r := range c.Replicas {
			if r != l {
				cluster.SeeDeparted(r.Node, cluster.Peer{ID: l.ID, Address: l.ID})
			}
		}
		next := c.Leader(l)
		propose(t, l.Node, put("k", "2"))
		if _, err := l.Node.ReadIndex(timeout(5 * time.Second)); err != nil {
			t.Error(err)
		}
		for _, r := range []*clustertest.Replica{l, next} {
			if got, _ := r.Ledger.Get("k"); r == l && string(got.Value) != "2" {
				t.Errorf("%s holds %q", r.ID, got.Value)
			}
		}
	})
}

// Sealed voters leave the succession to one that can open secrets.
func TestUnsealedVoterSucceeds(t *testing.T) {
	for _, open := range []string{"n1", "n2", "n3", "n4"} {
		synctest.Test(t, func(t *testing.T) {
			c := clustertest.New(t, 33, 5, func(cfg *cluster.Config) {
				id := cfg.ID
				cfg.Unsealed = func() bool { return id == open || id == "n0" }
			})
			defer c.Close()
			awaitLeader(t, c, "n0")
			c.Network.Kill("n0")
			began := time.Now()
			if l, took := c.Leader(c.Replicas[0]), time.Since(began); l.ID != open || took > 100*time.Millisecond {
				t.Errorf("%s leads after %v; want %s, and at once", l.ID, took, open)
			}
		})
	}
}

// awaitLeader hands leadership to id.
func awaitLeader(t *testing.T, c *clustertest.Cluster, id string) {
	t.Helper()
	for range 10 {
		l := c.Leader()
		if l.ID == id {
			propose(t, l.Node, put("k", "1"))
			<-time.After(time.Second)
			return
		}
		if err := l.Node.TransferLeadership(timeout(5*time.Second), id); err != nil {
			t.Log(fmt.Errorf("handing over: %w", err)) // it is tried again
		}
		<-time.After(time.Second)
	}
	t.Fatalf("%s does not come to lead", id)
}

// A snapshot that is asked for while leadership is handed over is taken afterwards.
func TestSnapshotWaitsForAHandover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 34, 3, nil)
		defer c.Close()
		l, f := c.Leader(), c.Follower()
		propose(t, l.Node, put("k", "1"))
		<-time.After(time.Second)
		c.Network.SetDrop(func(_, _ string, message any) bool {
			_, ok := message.(*raft.TimeoutNowRequest)
			return ok
		})
		handed := make(chan error, 1)
		go func() { handed <- l.Node.TransferLeadership(timeout(5*time.Second), f.ID) }()
		<-time.After(50 * time.Millisecond)
		began := time.Now()
		if err := l.Node.Snapshot(timeout(5 * time.Second)); err != nil {
			t.Error(err)
		}
		if time.Since(began) == 0 {
			t.Error("nothing was under way: the test shows nothing")
		}
		if err := <-handed; err == nil {
			t.Error("handed over without TimeoutNow")
		}
	})
}
