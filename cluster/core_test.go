package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/cluster/clustertest"
	"github.com/conclave-secrets/conclave/fsm"
)

func put(key, value string) *fsm.Batch {
	return &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpPutRecord, Key: []byte(key), Value: []byte(value)}}}
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// propose fails the test unless b takes effect within a minute.
func propose(t testing.TB, n *cluster.Node, b *fsm.Batch) fsm.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := n.Propose(ctx, b)
	if err != nil || r.Code != fsm.Applied {
		t.Fatalf("proposing: %+v, %v", r, err)
	}
	return r
}

// read is a linearizable read of key on r.
func read(ctx context.Context, r *clustertest.Replica) (clustertest.Record, error) {
	if _, err := r.Node.ReadIndex(ctx); err != nil {
		return clustertest.Record{}, err
	}
	rec, _ := r.Ledger.Get("k")
	return rec, nil
}

// What one node acknowledged, every node reads afterwards.
func TestWriteAnywhereReadEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 1, 3, nil)
		defer c.Close()
		for i, w := range c.Replicas {
			want := fmt.Sprint("value ", i)
			propose(t, w.Node, put("k", want))
			for _, r := range c.Replicas {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				got, err := read(ctx, r)
				cancel()
				if err != nil || string(got.Value) != want {
					t.Errorf("written on %s, read on %s: %q, %v; want %q", w.ID, r.ID, got.Value, err, want)
				}
			}
		}
	})
}

// A batch that arrives twice, or is sent again after a leader was killed, takes
// effect once; and everything acknowledged is there in the end.
func TestExactlyOnceOverLeaderKills(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			c := clustertest.New(t, seed, 3, nil)
			defer c.Close()
			c.Leader()
			c.Network.SetLoss(0.005)
			c.Network.SetDuplicates(0.3)
			var mu sync.Mutex
			done, unknown := 0, 0
			var writers sync.WaitGroup
			stop := make(chan struct{})
			nodes := []*cluster.Node{c.Replicas[0].Node, c.Replicas[1].Node, c.Replicas[2].Node}
			for w := range 12 {
				writers.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
						r, err := nodes[w%3].Propose(ctx, put(fmt.Sprintf("w%d-%d", w, i), "v"))
						cancel()
						mu.Lock()
						switch {
						case err == nil && r.Code == fsm.Applied:
							done++
						case errors.Is(err, fsm.ErrUnknown):
							unknown++
						case !errors.Is(err, fsm.ErrNotDone):
							t.Errorf("neither done, not done nor unknown: %+v, %v", r, err)
						}
						mu.Unlock()
						if errors.Is(err, fsm.ErrNotDone) && nodes[w%3].Done() != nil {
							select {
							case <-nodes[w%3].Done():
								return // its node was killed
							default:
							}
						}
					}
				})
			}
			<-time.After(2 * time.Second)
			victim := c.Leader()
			c.Kill(victim)
			c.Leader(victim)
			<-time.After(2 * time.Second)
			close(stop)
			c.Network.SetLoss(0)
			c.Network.SetDuplicates(0)
			writers.Wait()
			c.Start(victim)
			l := c.Leader()
			propose(t, l.Node, put("last", "v"))
			effects := l.Ledger.Effects() - 1
			if effects < done || effects > done+unknown {
				t.Errorf("seed %d: %d batches took effect; %d acknowledged, %d unknown", seed, effects, done, unknown)
			}
			if done < 20 {
				t.Errorf("seed %d: only %d writes went through", seed, done)
			}
			for _, r := range c.Replicas {
				if _, err := r.Node.ReadIndex(within(t, 20*time.Second)); err != nil {
					t.Fatalf("%s: %v", r.ID, err)
				}
				if got := r.Ledger.Effects() - 1; got != effects {
					t.Errorf("seed %d: %s has %d effects, the leader %d", seed, r.ID, got, effects)
				}
			}
		})
	}
}

// Without a quorum nothing hangs and nothing lies: a write ends unknown or not
// done, a read fails, both within their deadline (L15).
func TestNoQuorumEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 3, 3, nil)
		defer c.Close()
		l := c.Leader()
		propose(t, l.Node, put("k", "v"))
		for _, r := range c.Replicas {
			if r != l {
				c.Kill(r)
			}
		}
		start := time.Now()
		_, err := l.Node.Propose(within(t, 3*time.Second), put("k", "w"))
		if !errors.Is(err, fsm.ErrUnknown) {
			t.Errorf("write that was handed to Raft: %v, want unknown", err)
		}
		_, err = l.Node.Propose(within(t, 3*time.Second), put("k", "w"))
		if !errors.Is(err, cluster.ErrNoLeader) || !errors.Is(err, fsm.ErrNotDone) {
			t.Errorf("write without a leader: %v, want no leader", err)
		}
		if _, err := l.Node.ReadIndex(within(t, 3*time.Second)); err == nil {
			t.Error("read without a quorum was confirmed")
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A session that the machine has dropped is opened again, and the batch, which
// was sent once and not applied, takes effect once.
func TestSessionReopens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 4, 3, nil)
		defer c.Close()
		l := c.Leader()
		f := c.Follower()
		propose(t, l.Node, put("k", "1"))
		propose(t, f.Node, put("k", "2"))
		for _, r := range c.Replicas {
			if _, err := r.Node.ReadIndex(within(t, time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		for _, r := range c.Replicas {
			r.Ledger.ForgetSessions()
		}
		propose(t, l.Node, put("k", "3"))
		propose(t, f.Node, put("k", "4"))
		if got := l.Ledger.Effects(); got != 4 {
			t.Errorf("%d batches took effect, want 4", got)
		}
	})
}

// A full queue refuses at once, with a hint, and the batch is not done.
func TestOverloadIsRefusedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 5, 3, func(cfg *cluster.Config) { cfg.QueueBatches = 8 })
		defer c.Close()
		l := c.Leader()
		propose(t, l.Node, put("k", "v"))
		c.Network.Isolate(l.ID)
		var stuck sync.WaitGroup
		ctx, cancel := context.WithCancel(context.Background())
		for range 8 {
			stuck.Go(func() {
				if _, err := l.Node.Propose(ctx, put("k", "w")); err == nil {
					t.Error("isolated leader acknowledged a write")
				}
			})
		}
		synctest.Wait()
		_, err := l.Node.Propose(ctx, put("k", "x"))
		var full *cluster.OverloadedError
		if !errors.As(err, &full) || full.RetryAfter <= 0 || !errors.Is(err, fsm.ErrNotDone) || !errors.Is(err, cluster.ErrOverloaded) {
			t.Errorf("ninth batch: %v, want overloaded with a hint", err)
		}
		cancel()
		stuck.Wait()
	})
}

// A wall clock that jumps moves log time neither back nor ahead while a leader
// is in office, and a later leader starts no earlier than the machine.
func TestLogTimeIgnoresWallJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &jumpingClock{start: time.Now()}
		c := clustertest.New(t, 6, 3, func(cfg *cluster.Config) { cfg.Clock = clock })
		defer c.Close()
		before := propose(t, c.Leader().Node, put("k", "1"))
		clock.jump(-time.Hour)
		<-time.After(time.Second)
		after := propose(t, c.Leader().Node, put("k", "2"))
		if d := time.Duration(after.Time - before.Time); d < 900*time.Millisecond || d > 1100*time.Millisecond {
			t.Errorf("log time moved by %v in a second", d)
		}
		old := c.Leader()
		c.Kill(old)
		later := propose(t, c.Leader(old).Node, put("k", "3"))
		if later.Time <= after.Time {
			t.Errorf("log time ran backwards over a leader change: %d, then %d", after.Time, later.Time)
		}
	})
}

// Log time stands still while nobody writes. Who reads sees it moved on all the
// same, from whichever node; who does not read costs nothing.
func TestReadersSeeTimePass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 7, 3, nil)
		defer c.Close()
		written := propose(t, c.Leader().Node, put("k", "1"))
		<-time.After(time.Hour)
		if index, _ := c.Leader().Ledger.Applied(); index != written.Index {
			t.Errorf("an hour in which nobody asked made entries up to %d, after %d", index, written.Index)
		}
		for i, r := range c.Replicas {
			if _, err := read(within(t, 10*time.Second), r); err != nil {
				t.Fatal(err)
			}
			if passed := time.Duration(r.Ledger.Time() - written.Time); passed < time.Hour {
				t.Errorf("reader %d sees log time %v after the write, an hour later", i, passed)
			}
		}
		after, _ := c.Leader().Ledger.Applied()
		if after != written.Index+1 {
			t.Errorf("three reads at once made %d entries", after-written.Index)
		}
	})
}

// jumpingClock is a clock whose wall time can be set, and which can let hours
// pass that nothing else notices.
type jumpingClock struct {
	start time.Time
	mu    sync.Mutex
	off   time.Duration
	slept time.Duration
}

func (c *jumpingClock) Wall() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}
func (c *jumpingClock) Monotonic() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.start) + c.slept
}
func (c *jumpingClock) sleep(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept += d
}
func (c *jumpingClock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}
