package peer_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/storage/raftlog"
	"github.com/conclave-secrets/conclave/storage/snapshot"
	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/vfs"
	"github.com/conclave-secrets/conclave/transport/peer"
)

// diskNodes starts three nodes on real disks, real machines and real TLS.
func diskNodes(t testing.TB) []*cluster.Node {
	t.Helper()
	ca := newAuthority(t)
	var voters []cluster.Peer
	var transports []*peer.Transport
	for i := range 3 {
		id := fmt.Sprintf("n%d", i)
		p := open(t, peer.Config{TLS: ca.config(t, id)})
		voters = append(voters, cluster.Peer{ID: id, Address: string(p.LocalAddr())})
		transports = append(transports, p)
	}
	var nodes []*cluster.Node
	for i, v := range voters {
		dir := t.TempDir()
		store, err := state.Open(filepath.Join(dir, "state"), vfs.Default, state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		machine, err := fsm.Open(store)
		if err != nil {
			t.Fatal(err)
		}
		log, err := raftlog.Open(dir, raftlog.Options{Fail: func(error) {}})
		if err != nil {
			t.Fatal(err)
		}
		snapshots, err := snapshot.New(filepath.Join(dir, "snapshots"), vfs.Default, 0)
		if err != nil {
			t.Fatal(err)
		}
		n, err := cluster.Start(within(t, 10*time.Second), cluster.Config{
			ID: v.ID, Machine: machine, Log: log, Stable: log, Snapshots: snapshots,
			Transport: transports[i], Bootstrap: true, Voters: voters,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			if err := errors.Join(n.Close(ctx), machine.Close(), store.Close(), log.Close()); err != nil {
				t.Errorf("closing a node: %v", err)
			}
		})
		nodes = append(nodes, n)
	}
	return nodes
}

// BenchmarkDisks is the whole replicated path below the request: 256-byte
// values into distinct records, and read indexes, through all three nodes.
func BenchmarkDisks(b *testing.B) {
	value := make([]byte, 256)
	for _, workers := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("put/%d", workers), func(b *testing.B) {
			var key atomic.Int64
			benchmarkNodes(b, workers, func(n *cluster.Node) error {
				k := fmt.Appendf(nil, "\x01record %d", key.Add(1))
				r, err := n.Propose(context.Background(), &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpPutRecord, Key: k, Value: value}}})
				if err == nil && r.Code != fsm.Applied {
					err = fmt.Errorf("put: code %d, %v", r.Code, r.Reason)
				}
				return err
			})
		})
		b.Run(fmt.Sprintf("readindex/%d", workers), func(b *testing.B) {
			benchmarkNodes(b, workers, func(n *cluster.Node) error {
				_, err := n.ReadIndex(context.Background())
				return err
			})
		})
	}
}

func benchmarkNodes(b *testing.B, workers int, do func(*cluster.Node) error) {
	nodes := diskNodes(b)
	for _, n := range nodes {
		if _, err := n.ReadIndex(within(b, 20*time.Second)); err != nil {
			b.Fatal(err)
		}
		if err := do(n); err != nil {
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
				if err := do(nodes[w%len(nodes)]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}
