package peer_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/cluster/clustertest"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/transport/peer"
)

type replica struct {
	node      *cluster.Node
	transport *peer.Transport
	ledger    *clustertest.Ledger
}

// startCluster runs n nodes over real TLS connections with stores in memory.
func startCluster(t testing.TB, n int) []*replica {
	t.Helper()
	ca := newAuthority(t)
	var voters []cluster.Peer
	var all []*replica
	for i := range n {
		id := fmt.Sprintf("n%d", i)
		r := &replica{transport: open(t, peer.Config{TLS: ca.config(t, id)}), ledger: clustertest.NewLedger()}
		voters = append(voters, cluster.Peer{ID: id, Address: string(r.transport.LocalAddr())})
		all = append(all, r)
	}
	for i, r := range all {
		disk := clustertest.NewDisk()
		node, err := cluster.Start(within(t, 10*time.Second), cluster.Config{
			ID: voters[i].ID, Machine: r.ledger, Log: disk, Stable: disk, Snapshots: raft.NewInmemSnapshotStore(),
			Transport: r.transport, Bootstrap: true, Voters: voters,
		})
		if err != nil {
			t.Fatal(err)
		}
		r.node = node
		t.Cleanup(func() { r.stop(t) })
	}
	return all
}

func (r *replica) stop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := r.node.Close(ctx); err != nil {
		t.Errorf("closing node: %v", err)
	}
}

func put(value string) *fsm.Batch {
	return &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpPutRecord, Key: []byte("k"), Value: []byte(value)}}}
}

// leaderOf asks until one of the replicas, but not was, leads.
func leaderOf(t testing.TB, all []*replica, was *replica) *replica {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		for _, r := range all {
			if r != was && r.node.IsLeader() {
				return r
			}
		}
	}
	t.Fatal("no leader")
	return nil
}

// Three nodes on real connections elect, write and read from every node, and go
// on when the leader is gone.
func TestClusterOverTLS(t *testing.T) {
	all := startCluster(t, 3)
	old := leaderOf(t, all, nil)
	for i, w := range all {
		want := fmt.Sprint("value ", i)
		if _, err := w.node.Propose(within(t, 20*time.Second), put(want)); err != nil {
			t.Fatalf("writing on node %d: %v", i, err)
		}
		for k, r := range all {
			if _, err := r.node.ReadIndex(within(t, 20*time.Second)); err != nil {
				t.Fatalf("reading on node %d: %v", k, err)
			}
			if got, _ := r.ledger.Get("k"); string(got.Value) != want {
				t.Errorf("written on %d, read on %d: %q, want %q", i, k, got.Value, want)
			}
		}
	}
	old.stop(t)
	if err := old.transport.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	var next *replica
	for _, r := range all {
		if r != old {
			next = r
		}
	}
	if _, err := next.node.Propose(within(t, 20*time.Second), put("after")); err != nil {
		t.Fatalf("writing after the leader is gone: %v", err)
	}
	t.Logf("first write after the leader was gone: %v", time.Since(start))
}

func benchmarkCluster(b *testing.B, workers int, do func(r *replica) error) {
	all := startCluster(b, 3)
	leaderOf(b, all, nil)
	for _, r := range all {
		if _, err := r.node.Propose(within(b, 20*time.Second), put("warm")); err != nil {
			b.Fatal(err)
		}
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var group sync.WaitGroup
	b.ResetTimer()
	for w := range workers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(all[w%len(all)]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

func BenchmarkCluster(b *testing.B) {
	for _, workers := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("put/%d", workers), func(b *testing.B) {
			benchmarkCluster(b, workers, func(r *replica) error {
				_, err := r.node.Propose(context.Background(), put("value"))
				return err
			})
		})
		b.Run(fmt.Sprintf("readindex/%d", workers), func(b *testing.B) {
			benchmarkCluster(b, workers, func(r *replica) error {
				_, err := r.node.ReadIndex(context.Background())
				return err
			})
		})
	}
}
