package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/cluster/clustertest"
	"github.com/conclave-secrets/conclave/fsm"
)

type atomicTime struct {
	mu sync.Mutex
	t  time.Time
}

func (a *atomicTime) set(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t = t
}

func (a *atomicTime) get() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.t
}

// votes tells whether id is a voter in r's eyes.
func votes(r *clustertest.Replica, id string) bool {
	for _, m := range r.Node.Members() {
		if m.ID == id {
			return m.Voter
		}
	}
	return false
}

// L13: the bare library's AddVoter makes a node that does not exist a voter at
// once. Here a new node votes only after it was near the end of the log, and
// stable, for the whole time; one that is not there never does.
func TestL13NewNodesEarnTheirVote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := clustertest.NewNetwork(13)
		all := plainCluster(t, n, 3, 0, time.Second/2)
		l := plainLeader(all, nil)
		if err := l.raft.AddVoter("ghost", "ghost", 0, 0).Error(); err != nil {
			t.Fatal(err)
		}
		for _, s := range l.raft.GetConfiguration().Configuration().Servers {
			if s.ID == "ghost" && s.Suffrage != raft.Voter {
				t.Error("bare library: it waited; the test shows nothing")
			}
		}
		stopPlain(n, all)
	})
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 13, 3, nil)
		defer c.Close()
		l := c.Leader()
		for i := range 50 {
			propose(t, l.Node, put("k", fmt.Sprint(i)))
		}
		for _, id := range []string{"n3", "ghost"} {
			if err := l.Node.AddNonvoter(timeout(time.Second), cluster.Peer{ID: id, Address: id}); err != nil {
				t.Fatal(err)
			}
		}
		c.Start(c.Add("n3", nil))
		if err := l.Node.Promote(timeout(time.Second), "ghost"); !errors.Is(err, cluster.ErrUnsafe) {
			t.Errorf("promoting a node that does not answer: %v", err)
		}
		<-time.After(9 * time.Second)
		if votes(l, "n3") {
			t.Error("n3 votes before it was stable for 10 s")
		}
		<-time.After(5 * time.Second)
		if !votes(l, "n3") || votes(l, "ghost") {
			t.Errorf("n3 votes: %v, ghost votes: %v; want only n3", votes(l, "n3"), votes(l, "ghost"))
		}
	})
}

// L13: a removal that would leave no live quorum is refused; one that does not
// is done, and the leader cannot remove itself.
func TestL13UnsafeRemovalIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 14, 3, nil)
		defer c.Close()
		l := c.Leader()
		var others []*clustertest.Replica
		for _, r := range c.Replicas {
			if r != l {
				others = append(others, r)
			}
		}
		propose(t, l.Node, put("k", "1"))
		c.Kill(others[0])
		<-time.After(2 * time.Second)
		if err := l.Node.Remove(timeout(time.Second), others[1].ID); !errors.Is(err, cluster.ErrUnsafe) {
			t.Errorf("removing the last live follower: %v", err)
		}
		if err := l.Node.Remove(timeout(time.Second), l.ID); !errors.Is(err, cluster.ErrUnsafe) {
			t.Errorf("the leader removing itself: %v", err)
		}
		if err := l.Node.Remove(timeout(time.Second), "nobody"); !errors.Is(err, cluster.ErrUnknownMember) {
			t.Errorf("removing nobody: %v", err)
		}
		if err := others[1].Node.Remove(timeout(time.Second), others[0].ID); !errors.Is(err, cluster.ErrNotLeader) {
			t.Errorf("a follower removing: %v", err)
		}
		if err := l.Node.Remove(timeout(time.Second), others[0].ID); err != nil {
			t.Errorf("removing the dead node: %v", err)
		}
		propose(t, l.Node, put("k", "2"))
		if n := len(l.Node.Members()); n != 2 {
			t.Errorf("%d members, want 2", n)
		}
	})
}

// A sealed leader hands over to an unsealed voter; when all are sealed, the
// leader stays and goes on ordering.
func TestLeadershipPrefersUnsealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var unsealed sync.Map
		c := clustertest.New(t, 15, 3, func(cfg *cluster.Config) {
			id := cfg.ID
			cfg.Unsealed = func() bool { _, ok := unsealed.Load(id); return ok }
		})
		defer c.Close()
		l := c.Leader()
		<-time.After(5 * time.Second)
		if c.Leader() != l {
			t.Error("leadership moved though everybody is sealed")
		}
		propose(t, l.Node, put("k", "1"))
		f := c.Follower()
		unsealed.Store(f.ID, true)
		<-time.After(5 * time.Second)
		if now := c.Leader(); now != f {
			t.Errorf("%s leads, want the unsealed %s", now.ID, f.ID)
		}
		propose(t, l.Node, put("k", "2"))
		if err := f.Node.StepDown(timeout(5 * time.Second)); err != nil {
			t.Errorf("stepping down by hand: %v", err)
		}
	})
}

// The leader's duty runs on one node at a time and ends with its leadership.
func TestLeadRunsOnOneNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most, runs atomic.Int64
		c := clustertest.New(t, 16, 3, func(cfg *cluster.Config) {
			cfg.Lead = func(ctx context.Context) {
				most.Store(max(most.Load(), running.Add(1)))
				runs.Add(1)
				<-ctx.Done()
				running.Add(-1)
			}
		})
		defer c.Close()
		for range 4 {
			l := c.Leader()
			<-time.After(time.Second)
			if err := l.Node.StepDown(timeout(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			c.Leader(l)
		}
		<-time.After(time.Second)
		if running.Load() != 1 || most.Load() != 1 || runs.Load() < 4 {
			t.Errorf("running %d, at most %d at once, %d runs", running.Load(), most.Load(), runs.Load())
		}
	})
}

// A lease ends by itself when its time has come on the log clock, also when
// nobody else writes, and under a new leader.
func TestLeasesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 17, 3, nil)
		defer c.Close()
		grant := func(id string, ttl time.Duration) *fsm.Batch {
			return &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpGrantLease, Key: []byte(id), TTL: ttl}}}
		}
		l := c.Leader()
		propose(t, l.Node, grant("long", 10*time.Second))
		propose(t, l.Node, grant("short", 2*time.Second))
		<-time.After(1900 * time.Millisecond)
		if !l.Ledger.HasLease("short") {
			t.Error("the lease ended early")
		}
		<-time.After(200 * time.Millisecond)
		if l.Ledger.HasLease("short") || !l.Ledger.HasLease("long") {
			t.Error("after 2.1 s: the short lease is there or the long one is not")
		}
		c.Kill(l)
		next := c.Leader(l)
		<-time.After(9 * time.Second)
		if next.Ledger.HasLease("long") {
			t.Error("the new leader did not end the long lease")
		}
	})
}

// A replica whose state differs from the majority's halts and names the index;
// the others do not.
func TestDivergedReplicaHalts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, leads := range []bool{false, true} {
			c := clustertest.New(t, 18, 3, nil)
			l := c.Leader()
			propose(t, l.Node, put("k", "1"))
			<-time.After(7 * time.Second)
			victim := l
			if !leads {
				victim = c.Follower()
			}
			for _, r := range c.Replicas {
				if r.Node.Halted() != nil {
					t.Fatalf("%s halted before: %v", r.ID, r.Node.Halted())
				}
			}
			victim.Ledger.Corrupt()
			propose(t, l.Node, put("k", "2"))
			<-time.After(7 * time.Second)
			var diverged *cluster.DivergedError
			if !errors.As(victim.Fatal(), &diverged) || diverged.Index == 0 {
				t.Errorf("the diverged replica halted for %v", victim.Fatal())
			}
			for _, r := range c.Replicas {
				if r != victim && r.Node.Halted() != nil {
					t.Errorf("%s halted: %v", r.ID, r.Node.Halted())
				}
			}
			propose(t, c.Leader(victim).Node, put("k", "3"))
			c.Close()
		}
	})
}

// A new node far behind gets a snapshot, and a restarted one goes on from its
// own state.
func TestSnapshotInstallAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 19, 3, func(cfg *cluster.Config) {
			cfg.SnapshotThreshold, cfg.SnapshotRetain = 16, 1
		})
		defer c.Close()
		l := c.Leader()
		for i := range 100 {
			propose(t, l.Node, put(fmt.Sprint("k", i), "v"))
		}
		for _, r := range c.Replicas {
			if err := r.Node.Snapshot(timeout(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		first, err := l.Log.FirstIndex()
		if err != nil || first < 50 {
			t.Fatalf("log begins at %d, %v; the test wants it cut", first, err)
		}
		extra := c.Add("n3", nil)
		c.Start(extra)
		if err := l.Node.AddNonvoter(timeout(time.Second), cluster.Peer{ID: "n3", Address: "n3"}); err != nil {
			t.Fatal(err)
		}
		if _, err := extra.Node.ReadIndex(timeout(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, ok := extra.Ledger.Get("k0"); !ok {
			t.Error("the new node lacks the oldest record")
		}
		restart := func(restores int) {
			t.Helper()
			c.Kill(extra)
			c.Start(extra)
			propose(t, l.Node, put("last", "v"))
			if _, err := extra.Node.ReadIndex(timeout(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if got, want := extra.Ledger.Effects(), l.Ledger.Effects(); got != want {
				t.Errorf("restarted node: %d effects, the leader %d", got, want)
			}
			if got := extra.Ledger.Restores(); got != restores {
				t.Errorf("%d snapshots restored, want %d", got, restores)
			}
		}
		restart(1) // the one installed: the state was still there
		extra.Ledger = clustertest.NewLedger()
		restart(1) // its own: the state was lost, log and snapshot were not
		if err := l.Node.Remove(timeout(time.Second), "n3"); err != nil {
			t.Errorf("changing the membership after snapshots: %v", err)
		}
	})
}

// A committed entry can be fetched from any peer that has it; one that is not
// committed, from none.
func TestFetchEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 20, 3, nil)
		defer c.Close()
		l := c.Leader()
		r := propose(t, l.Node, put("k", "v"))
		peers := []cluster.Peer{{ID: "away", Address: "away"}, {ID: l.ID, Address: l.ID}}
		got, err := cluster.FetchEntry(timeout(5*time.Second), c.Network.Transport("asks"), peers, r.Index)
		if err != nil || got.Index != r.Index || len(got.Data) == 0 {
			t.Errorf("got %+v, %v", got, err)
		}
		if _, err := cluster.FetchEntry(timeout(5*time.Second), c.Network.Transport("asks"), peers, r.Index+1000); !errors.Is(err, cluster.ErrEntryUnknown) {
			t.Errorf("an entry that is not there: %v", err)
		}
	})
}

// A node that comes back at another address is found through Config.Addresses,
// for Raft's messages and for calls, before the membership knows of it.
func TestMovedNodeIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var moved atomic.Bool
		var network *clustertest.Network
		c := clustertest.New(t, 23, 3, func(cfg *cluster.Config) {
			cfg.Addresses = func(id string) (string, bool) { return "elsewhere", id == "n2" && moved.Load() }
			if moved.Load() && cfg.ID == "n2" {
				cfg.Transport = network.Transport("elsewhere")
			}
		})
		network = c.Network
		defer c.Close()
		defer c.Network.Kill("elsewhere")
		propose(t, c.Leader().Node, put("k", "1"))
		c.Kill(c.Replicas[2])
		moved.Store(true)
		c.Start(c.Replicas[2])
		c.Network.Kill("n2")
		for _, r := range c.Replicas {
			propose(t, r.Node, put("k", "2"))
			if _, err := r.Node.ReadIndex(timeout(10 * time.Second)); err != nil {
				t.Errorf("%s: %v", r.ID, err)
			}
		}
		l := c.Leader()
		if l.ID != "n2" {
			if err := l.Node.TransferLeadership(timeout(5*time.Second), "n2"); err != nil {
				t.Fatal(err)
			}
			c.Leader(l)
		}
		for _, r := range c.Replicas {
			propose(t, r.Node, put("k", "3"))
		}
	})
}
