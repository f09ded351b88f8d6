package cluster_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/cluster/clustertest"
	"github.com/conclave-secrets/conclave/fsm"
)

// These tests go by the table in DESIGN.md. Each
// shows the fault on the bare library first and then its absence here.

type spyTransport struct {
	cluster.Transport
	*spy
}

func (s spyTransport) SetHeartbeatHandler(f func(raft.RPC)) { s.spy.SetHeartbeatHandler(f) }
func (s spyTransport) AppendEntriesPipeline(i raft.ServerID, a raft.ServerAddress) (raft.AppendPipeline, error) {
	return s.spy.AppendEntriesPipeline(i, a)
}
func (s spyTransport) Consumer() <-chan raft.RPC                               { return s.Transport.Consumer() }
func (s spyTransport) LocalAddr() raft.ServerAddress                           { return s.Transport.LocalAddr() }
func (s spyTransport) EncodePeer(i raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (s spyTransport) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }

// L1, L7: the library asks its transport for the heartbeat fast path and for
// pipelining; the node lets neither through.
func TestL1L7FastPathAndPipelineStayOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := clustertest.NewNetwork(1)
		members := raft.Configuration{Servers: []raft.Server{{ID: "n0", Address: "n0"}, {ID: "n1", Address: "n1"}}}
		watched := &spy{}
		a := startPlain(t, "n0", newSpyOn(n.Transport("n0"), watched), &members, time.Second/2)
		b := startPlain(t, "n1", newSpyOn(n.Transport("n1"), watched), &members, time.Second/2)
		l := plainLeader([]*plain{a, b}, nil)
		if err := l.raft.Apply([]byte("x"), 0).Error(); err != nil {
			t.Fatal(err)
		}
		if h, p := watched.counts(); h == 0 || p == 0 {
			t.Errorf("bare library: asked for the fast path %d times, for pipelines %d times; the test shows nothing", h, p)
		}
		stopPlain(n, []*plain{a, b})
	})
	synctest.Test(t, func(t *testing.T) {
		watched := &spy{}
		c := clustertest.New(t, 1, 3, func(cfg *cluster.Config) { cfg.Transport = newSpyOn(cfg.Transport, watched) })
		defer c.Close()
		propose(t, c.Leader().Node, put("k", "v"))
		<-time.After(time.Second)
		if h, p := watched.counts(); h != 0 || p != 0 {
			t.Errorf("node: asked for the fast path %d times, for pipelines %d times", h, p)
		}
	})
}

func newSpyOn(t cluster.Transport, s *spy) spyTransport { return spyTransport{t, s} }

// slowReplies delays everything on its way back to id.
func slowReplies(id string, d time.Duration) func(*rand.Rand, string, string, bool) time.Duration {
	return func(_ *rand.Rand, _, to string, reply bool) time.Duration {
		if to == id && reply {
			return d
		}
		return time.Millisecond
	}
}

// L2: acknowledgements that were under way before a total cut satisfy
// VerifyLeader after it; they never satisfy ReadIndex.
func TestL2AcknowledgementsFromBeforeDoNotCount(t *testing.T) {
	const tries = 10
	synctest.Test(t, func(t *testing.T) {
		n := clustertest.NewNetwork(1)
		all := plainCluster(t, n, 3, 0, time.Second/2)
		verified := 0
		for range tries {
			l := plainLeader(all, nil)
			n.SetDelay(slowReplies(l.id, 300*time.Millisecond))
			<-time.After(5 * time.Second)
			l = plainLeader(all, nil)
			n.Isolate(l.id)
			<-time.After(5 * time.Millisecond)
			if l.raft.VerifyLeader().Error() == nil {
				verified++
			}
			n.Heal()
			<-time.After(10 * time.Second)
		}
		if verified == 0 {
			t.Error("bare library: VerifyLeader never erred; the test shows nothing")
		}
		stopPlain(n, all)
	})
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 1, 3, nil)
		defer c.Close()
		for range tries {
			l := c.Leader()
			c.Network.SetDelay(slowReplies(l.ID, 90*time.Millisecond))
			<-time.After(5 * time.Second)
			l = c.Leader()
			if _, err := l.Node.ReadIndex(timeout(time.Second)); err != nil {
				t.Errorf("before the cut: %v", err)
			}
			c.Network.Isolate(l.ID)
			<-time.After(5 * time.Millisecond)
			if _, err := l.Node.ReadIndex(timeout(2 * time.Second)); err == nil {
				t.Error("a read was confirmed although nobody could hear of it")
			}
			c.Network.Heal()
			<-time.After(10 * time.Second)
		}
	})
}

// L2: under delayed replies, a cut and a slow disk, no read returns the old value
// after the new one was acknowledged.
func TestL2NoStaleReads(t *testing.T) {
	const seeds = 120
	stale, tried := false, uint64(0)
	for ; !stale && tried < 8*seeds; tried++ { // about 1 of 20 is; its timers are not seeded
		synctest.Test(t, func(t *testing.T) { stale = plainStale(t, tried) })
	}
	if !stale {
		t.Error("bare library: no stale read; the test shows nothing")
	}
	served := 0
	for seed := range uint64(seeds) {
		synctest.Test(t, func(t *testing.T) { served += staleHunt(t, seed) })
	}
	t.Logf("VerifyLeader: stale after %d seeds; ReadIndex: not in %d seeds, %d reads served by old leaders", tried, seeds, served)
	if served == 0 {
		t.Error("the old leaders served no read; the test shows nothing")
	}
}

// plainStale tells whether a read behind VerifyLeader was stale (lease equal to
// the heartbeat timeout, which the library accepts).
func plainStale(t *testing.T, seed uint64) (stale bool) {
	n := clustertest.NewNetwork(seed)
	all := plainCluster(t, n, 3, 0, time.Second)
	l := plainLeader(all, nil)
	if err := l.raft.Apply([]byte("old"), 0).Error(); err != nil {
		t.Fatal(err)
	}
	<-time.After(2*time.Second + n.Jitter(time.Second/2))
	n.SetDelay(func(rng *rand.Rand, _, to string, reply bool) time.Duration {
		if to == l.id && reply {
			return time.Duration(rng.Int64N(int64(3 * time.Second)))
		}
		return time.Millisecond
	})
	<-time.After(100*time.Millisecond + n.Jitter(300*time.Millisecond))
	n.Isolate(l.id)
	var acknowledged time.Time
	for end := time.Now().Add(6 * time.Second); time.Now().Before(end); <-time.After(4 * time.Millisecond) {
		if acknowledged.IsZero() {
			for _, p := range all {
				if p != l && p.raft.State() == raft.Leader && p.raft.Apply([]byte("new"), time.Second).Error() == nil {
					acknowledged = time.Now()
				}
			}
			continue
		}
		if l.raft.State() == raft.Leader && l.raft.VerifyLeader().Error() == nil && l.reg.get() == "old" {
			stale = true
			break
		}
	}
	stopPlain(n, all)
	return stale
}

// staleHunt fails the test on a stale read and returns how many reads the old
// leader served.
func staleHunt(t *testing.T, seed uint64) (served int) {
	c := clustertest.New(t, seed, 3, nil)
	defer c.Close()
	l := c.Leader()
	propose(t, l.Node, put("k", "old"))
	<-time.After(time.Second + c.Network.Jitter(time.Second/2))
	c.Network.SetDelay(func(rng *rand.Rand, _, to string, reply bool) time.Duration {
		if to == l.ID && reply {
			return time.Duration(rng.Int64N(int64(900 * time.Millisecond)))
		}
		return time.Millisecond
	})
	ctx, cancel := context.WithCancel(context.Background())
	read := make(chan int)
	var acknowledged atomicTime
	go func() {
		n := 0
		for ctx.Err() == nil {
			began := time.Now()
			bound, end := context.WithTimeout(ctx, 500*time.Millisecond)
			_, err := l.Node.ReadIndex(bound)
			end()
			if got, _ := l.Ledger.Get("k"); err == nil {
				n++
				if at := acknowledged.get(); !at.IsZero() && began.After(at) && string(got.Value) == "old" {
					t.Errorf("seed %d: read %q, begun %v after the new value was acknowledged", seed, got.Value, began.Sub(at))
				}
			}
			<-time.After(3 * time.Millisecond)
		}
		read <- n
	}()
	<-time.After(100*time.Millisecond + c.Network.Jitter(300*time.Millisecond))
	c.Network.Isolate(l.ID)
	l.Log.Stall(c.Network.Jitter(1500 * time.Millisecond))
	propose(t, c.Leader(l).Node, put("k", "new"))
	acknowledged.set(time.Now())
	<-time.After(2 * time.Second)
	c.Network.Heal()
	<-time.After(3 * time.Second)
	cancel()
	return <-read
}

// L3: a non-voter's answer satisfies VerifyLeader; ReadIndex counts voters.
func TestL3NonVotersConfirmNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := clustertest.NewNetwork(3)
		all := plainCluster(t, n, 3, 1, time.Second/2)
		l := plainLeader(all, nil)
		<-time.After(2 * time.Second)
		for _, p := range all[:3] {
			if p != l {
				n.Cut(l.id, p.id)
			}
		}
		<-time.After(20 * time.Millisecond)
		if err := l.raft.VerifyLeader().Error(); err != nil {
			t.Errorf("bare library: %v; the test shows nothing", err)
		}
		stopPlain(n, all)
	})
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 3, 3, func(cfg *cluster.Config) { cfg.NoPromotion = true })
		defer c.Close()
		l := c.Leader()
		extra := c.Add("n3", nil)
		c.Start(extra)
		if err := l.Node.AddNonvoter(timeout(time.Second), cluster.Peer{ID: "n3", Address: "n3"}); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Second)
		for _, r := range c.Replicas[:3] {
			if r != l {
				c.Network.Cut(l.ID, r.ID)
			}
		}
		<-time.After(20 * time.Millisecond)
		if _, err := l.Node.ReadIndex(timeout(2 * time.Second)); err == nil {
			t.Error("a read was confirmed by a non-voter")
		}
	})
}

// L5: a leader whose disk hangs keeps the bare library's cluster for as long as
// it hangs. Here another leads within seconds, and the node halts.
func TestL5HungDiskLosesLeadership(t *testing.T) {
	const hang = time.Minute
	synctest.Test(t, func(t *testing.T) {
		n := clustertest.NewNetwork(5)
		all := plainCluster(t, n, 3, 0, time.Second/2)
		l := plainLeader(all, nil)
		<-time.After(2 * time.Second)
		l.disk.Stall(hang)
		f := l.raft.Apply([]byte("x"), 0)
		<-time.After(hang - time.Second)
		for _, p := range all {
			if p != l && p.raft.State() == raft.Leader {
				t.Error("bare library: another took over; the test shows nothing")
			}
		}
		_ = f.Error() // whatever becomes of it
		stopPlain(n, all)
	})
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 5, 3, nil)
		defer c.Close()
		l := c.Leader()
		propose(t, l.Node, put("k", "1"))
		l.Log.Stall(hang)
		began := time.Now()
		if _, err := l.Node.Propose(timeout(8*time.Second), put("k", "2")); !errors.Is(err, fsm.ErrUnknown) {
			t.Errorf("write on the hung disk: %v, want unknown", err)
		}
		next := c.Leader(l)
		propose(t, next.Node, put("k", "3"))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("another leader wrote after %v", took)
		}
		if l.Node.Halted() == nil || l.Fatal() == nil {
			t.Error("the node with the hung disk did not halt")
		}
		<-time.After(hang)
	})
}

// L6: a target that never hears TimeoutNow freezes the bare library's writes
// until its RPC times out. Here they go on after transferBound and an election
// timeout at most.
func TestL6FailedTransferFreezesNothing(t *testing.T) {
	lose := func(_, _ string, message any) bool {
		_, ok := message.(*raft.TimeoutNowRequest)
		return ok
	}
	synctest.Test(t, func(t *testing.T) {
		n := clustertest.NewNetwork(6)
		n.SetTimeout(10 * time.Second)
		all := plainCluster(t, n, 3, 0, time.Second/2)
		l := plainLeader(all, nil)
		<-time.After(2 * time.Second)
		n.SetDrop(lose)
		began := time.Now()
		f := l.raft.LeadershipTransfer()
		<-time.After(10 * time.Millisecond)
		for l.raft.Apply([]byte("w"), 0).Error() != nil {
			<-time.After(10 * time.Millisecond)
		}
		if took := time.Since(began); took < 5*time.Second || f.Error() == nil {
			t.Errorf("bare library: writes refused for %v; the test shows nothing", took)
		}
		stopPlain(n, all)
	})
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 6, 3, nil)
		defer c.Close()
		c.Network.SetTimeout(10 * time.Second)
		l := c.Leader()
		f := c.Follower()
		propose(t, l.Node, put("k", "1"))
		<-time.After(time.Second)
		c.Network.SetDrop(lose)
		began := time.Now()
		failed := make(chan error, 1)
		go func() { failed <- l.Node.TransferLeadership(timeout(time.Minute), f.ID) }()
		<-time.After(10 * time.Millisecond)
		if err := l.Node.TransferLeadership(timeout(time.Second), f.ID); !errors.Is(err, cluster.ErrTransferRunning) {
			t.Errorf("second transfer: %v", err)
		}
		propose(t, l.Node, put("k", "2"))
		if took := time.Since(began); took > time.Second {
			t.Errorf("writes refused for %v", took)
		}
		if err := <-failed; err == nil {
			t.Error("a transfer that nobody heard of succeeded")
		}
	})
}

// L8: after a failed write the bare library goes on. Here the replica stops for
// good, with the outcome of the write unknown, and the others go on.
func TestL8FailedWriteStopsTheReplica(t *testing.T) {
	broken := errors.New("input/output error")
	synctest.Test(t, func(t *testing.T) {
		n := clustertest.NewNetwork(8)
		all := plainCluster(t, n, 3, 0, time.Second/2)
		l := plainLeader(all, nil)
		l.disk.FailWith(broken)
		if err := l.raft.Apply([]byte("x"), 0).Error(); !errors.Is(err, broken) {
			t.Errorf("bare library: %v", err)
		}
		l.disk.FailWith(nil)
		<-time.After(5 * time.Second)
		if l.raft.State() == raft.Shutdown {
			t.Error("bare library: it stopped; the test shows nothing")
		}
		stopPlain(n, all)
	})
	for _, leads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := clustertest.New(t, 8, 3, nil)
			defer c.Close()
			l := c.Leader()
			propose(t, l.Node, put("k", "1"))
			victim := l
			if !leads {
				victim = c.Follower()
			}
			victim.Log.FailWith(broken)
			_, err := l.Node.Propose(timeout(3*time.Second), put("k", "2"))
			if leads && !errors.Is(err, fsm.ErrUnknown) {
				t.Errorf("write on the failing disk: %v, want unknown", err)
			}
			if !leads && err != nil {
				t.Errorf("write with a quorum of healthy disks: %v", err)
			}
			<-time.After(time.Second)
			victim.Log.FailWith(nil)
			<-time.After(5 * time.Second)
			if !errors.Is(victim.Node.Halted(), broken) || !errors.Is(victim.Fatal(), broken) {
				t.Errorf("halted for %v", victim.Node.Halted())
			}
			if s := victim.Node.Stats().State; s != "Shutdown" {
				t.Errorf("the replica that halted is %s", s)
			}
			if _, err := victim.Node.Propose(timeout(time.Second), put("k", "3")); err == nil {
				t.Error("a halted replica acknowledged a write")
			}
			if _, err := victim.Node.ReadIndex(timeout(time.Second)); !errors.Is(err, cluster.ErrClosed) {
				t.Errorf("read on a halted replica: %v", err)
			}
			propose(t, c.Leader(victim).Node, put("k", "4"))
		})
	}
}

// L8, above the disk: a machine that cannot apply halts its replica, and the
// batch's outcome is unknown there.
func TestMachineErrorStopsTheReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 9, 3, nil)
		defer c.Close()
		l := c.Leader()
		propose(t, l.Node, put("k", "1"))
		broken := errors.New("unknown operation")
		l.Ledger.FailWith(broken)
		if _, err := l.Node.Propose(timeout(3*time.Second), put("k", "2")); !errors.Is(err, fsm.ErrUnknown) {
			t.Errorf("got %v, want unknown", err)
		}
		if !errors.Is(l.Node.Halted(), broken) {
			t.Errorf("halted for %v", l.Node.Halted())
		}
		propose(t, c.Leader(l).Node, put("k", "3"))
	})
}

// L10: a node whose log ends before its state refuses to start.
func TestL10LostLogIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 10, 3, nil)
		defer c.Close()
		propose(t, c.Leader().Node, put("k", "1"))
		r := c.Follower()
		if _, err := r.Node.ReadIndex(timeout(time.Second)); err != nil {
			t.Fatal(err)
		}
		c.Kill(r)
		lost := clustertest.NewDisk()
		_, err := cluster.Start(timeout(time.Second), cluster.Config{
			ID: r.ID, Machine: r.Ledger, Log: lost, Stable: lost, Snapshots: raft.NewInmemSnapshotStore(),
			Transport: c.Network.Transport(r.ID),
		})
		if !errors.Is(err, cluster.ErrAmnesia) {
			t.Errorf("started with a lost log: %v", err)
		}
	})
}
