package cluster_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/cluster/clustertest"
)

// deadAfter is the threshold in these tests, interval the pace of the leader's
// look; a removal comes within a few of them.
const (
	deadAfter = time.Minute
	interval  = time.Second
)

func burying(cfg *cluster.Config) { cfg.DeadAfter = deadAfter }

// has tells whether id is a member in r's eyes.
func has(r *clustertest.Replica, id string) bool {
	return slices.ContainsFunc(r.Node.Members(), func(m cluster.Member) bool { return m.ID == id })
}

// others are the replicas but for not.
func others(c *clustertest.Cluster, not ...*clustertest.Replica) []*clustertest.Replica {
	return slices.DeleteFunc(slices.Clone(c.Replicas), func(r *clustertest.Replica) bool { return slices.Contains(not, r) })
}

// A dead voter and a dead non-voter are removed after the threshold and not
// before; by default nobody ever is.
func TestDeadMembersAreRemoved(t *testing.T) {
	for _, on := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var told sync.Map // who heard of a removal
			c := clustertest.New(t, 31, 5, func(cfg *cluster.Config) {
				cfg.NoPromotion = true
				id := cfg.ID
				cfg.Removed = func() { told.Store(id, true) }
				if on {
					burying(cfg)
				}
			})
			defer c.Close()
			l := c.Leader()
			propose(t, l.Node, put("k", "1"))
			if err := l.Node.AddNonvoter(timeout(time.Second), cluster.Peer{ID: "ghost", Address: "ghost"}); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Second)
			victim := c.Follower()
			c.Kill(victim)
			<-time.After(deadAfter - 11*time.Second)
			if !has(l, "ghost") {
				t.Error("the non-voter was removed too early")
			}
			<-time.After(10 * time.Second)
			if has(l, "ghost") == on {
				t.Errorf("cleanup %v: the non-voter is a member: %v", on, has(l, "ghost"))
			}
			if !has(l, victim.ID) {
				t.Error("the voter was removed too early")
			}
			<-time.After(2*interval + time.Second)
			if has(l, victim.ID) == on {
				t.Errorf("cleanup %v: the voter is a member: %v", on, has(l, victim.ID))
			}
			for _, r := range others(c, victim) {
				if !has(l, r.ID) {
					t.Errorf("%s was removed, and it is alive", r.ID)
				}
				if _, heard := told.Load(r.ID); heard != on {
					t.Errorf("cleanup %v: %s heard of a removal: %v", on, r.ID, heard)
				}
			}
			propose(t, c.Leader().Node, put("k", "2"))
		})
	}
}

// The minimum of voters stays, however long one of them is dead; a dead
// non-voter beside them goes.
func TestMinQuorumIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 32, 3, burying)
		defer c.Close()
		l := c.Leader()
		victim := c.Follower()
		c.Kill(victim)
		if err := l.Node.AddNonvoter(timeout(time.Second), cluster.Peer{ID: "ghost", Address: "ghost"}); err != nil {
			t.Fatal(err)
		}
		<-time.After(5 * deadAfter)
		if !has(l, victim.ID) || has(l, "ghost") {
			t.Errorf("voter is a member: %v, non-voter: %v; want only the voter", has(l, victim.ID), has(l, "ghost"))
		}
	})
}

// Where no quorum is left nobody is removed, though all are silent for each
// other; and when they come back, all are members.
func TestNobodyIsRemovedWithoutQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 33, 5, func(cfg *cluster.Config) { cfg.DeadAfter, cfg.MinQuorum = deadAfter, 1 })
		defer c.Close()
		l := c.Leader()
		propose(t, l.Node, put("k", "1"))
		for _, r := range others(c, l)[:3] {
			c.Network.Isolate(r.ID)
		}
		<-time.After(3 * deadAfter)
		c.Network.Heal()
		l = c.Leader()
		propose(t, l.Node, put("k", "2"))
		<-time.After(5 * time.Second)
		if n := len(l.Node.Members()); n != 5 {
			t.Errorf("%d members, want 5", n)
		}
	})
}

// Of two dead voters of five both go, one after the other; the three that
// remain are the minimum, and a third that dies stays.
func TestRemovalStopsAtTheMinimum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 34, 5, burying)
		defer c.Close()
		l := c.Leader()
		propose(t, l.Node, put("k", "1"))
		gone := others(c, l)[:3]
		for _, r := range gone[:2] {
			c.Kill(r)
		}
		<-time.After(deadAfter + 4*interval)
		if n := len(l.Node.Members()); n != 3 {
			t.Fatalf("%d members, want 3", n)
		}
		c.Kill(gone[2])
		<-time.After(2 * deadAfter)
		if !has(l, gone[2].ID) {
			t.Error("fewer than three voters were left")
		}
		propose(t, l.Node, put("k", "2"))
	})
}

// A leader's memory of silence is its own: a new one, and the old one when it
// leads again after a restart, starts to count when it takes office.
func TestNewLeaderCountsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 35, 5, burying)
		defer c.Close()
		old := c.Leader()
		propose(t, old.Node, put("k", "1"))
		victim := c.Follower()
		c.Kill(victim)
		<-time.After(deadAfter * 8 / 10)
		c.Kill(old)
		next := c.Leader(old)
		c.Start(old)
		propose(t, next.Node, put("k", "2"))
		<-time.After(deadAfter * 8 / 10)
		if !has(next, victim.ID) {
			t.Error("a new leader removed a member that was silent to it for less than the threshold")
		}
		if err := next.Node.TransferLeadership(timeout(5*time.Second), old.ID); err != nil {
			t.Fatal(err)
		}
		c.Leader(next)
		<-time.After(deadAfter * 8 / 10)
		if !old.Node.IsLeader() || !has(old, victim.ID) {
			t.Errorf("the old leader leads again: %v; the member is there: %v", old.Node.IsLeader(), has(old, victim.ID))
		}
		<-time.After(deadAfter*2/10 + 3*interval)
		if has(old, victim.ID) {
			t.Error("the dead member was never removed")
		}
	})
}

// A member that answers shortly before the threshold is spared, and its next
// silence is counted from zero.
func TestReturnInTimeIsSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 36, 5, burying)
		defer c.Close()
		l := c.Leader()
		victim := c.Follower()
		for range 2 {
			c.Network.Isolate(victim.ID)
			<-time.After(deadAfter - 2*interval)
			c.Network.Heal()
			<-time.After(3 * time.Second)
			if !has(c.Leader(), victim.ID) {
				t.Fatal("removed although it was back in time")
			}
		}
		<-time.After(2 * deadAfter)
		if n := len(l.Node.Members()); n != 5 {
			t.Errorf("%d members, want 5", n)
		}
	})
}

// A leader whose whole process was stopped for long has missed its members'
// answers, and takes nobody's silence from that time.
func TestStoppedLeaderBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &jumpingClock{start: time.Now()}
		c := clustertest.New(t, 37, 5, func(cfg *cluster.Config) { burying(cfg); cfg.Clock = clock })
		defer c.Close()
		l := c.Leader()
		victim := c.Follower()
		c.Network.Isolate(victim.ID)
		for range 10 {
			<-time.After(2 * interval)
			clock.sleep(24 * time.Hour)
		}
		<-time.After(interval)
		if !has(l, victim.ID) {
			t.Error("removed for a silence of 21 s, and days in which the leader did not run")
		}
	})
}

// grapevine is gossip that is heard at once.
type grapevine struct {
	mu       sync.Mutex
	up       []string
	disowned map[string][]string // by who says it
}

func (g *grapevine) of(id string) cluster.Rumours { return ear{g, id} }

func (g *grapevine) hear(ids ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.up = ids
}

// says is what id spreads.
func (g *grapevine) says(id string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.disowned[id]
}

type ear struct {
	g  *grapevine
	id string
}

func (e ear) Heard() []string {
	e.g.mu.Lock()
	defer e.g.mu.Unlock()
	return slices.Clone(e.g.up)
}

func (e ear) Disown(_ context.Context, ids []string) error {
	e.g.mu.Lock()
	defer e.g.mu.Unlock()
	if e.g.disowned == nil {
		e.g.disowned = map[string][]string{}
	}
	e.g.disowned[e.id] = ids
	return nil
}

func (e ear) Disowned() bool {
	e.g.mu.Lock()
	defer e.g.mu.Unlock()
	for who, ids := range e.g.disowned {
		if who != e.id && slices.Contains(ids, e.id) {
			return true
		}
	}
	return false
}

// A removed node that comes back gets no vote and disturbs nobody; it learns by
// gossip that it was removed, and halts with that. A rumour alone ends nobody:
// a node that has a leader, or had one, goes on.
func TestRemovedNodeIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gossip := &grapevine{}
		c := clustertest.New(t, 38, 5, func(cfg *cluster.Config) { burying(cfg); cfg.Rumours = gossip.of(cfg.ID) })
		defer c.Close()
		l := c.Leader()
		propose(t, l.Node, put("k", "1"))
		victim := c.Follower()
		c.Kill(victim)
		<-time.After(deadAfter + 4*interval)
		if has(l, victim.ID) {
			t.Fatal("the dead node was not removed")
		}
		// The library sends to a removed peer until its back-off is over. The
		// real transport refuses to; this one does not.
		<-time.After(2 * time.Minute)
		term := l.Node.Stats().Term
		gossip.hear("n0", "n1", "n2", "n3", "n4")
		c.Start(victim)
		<-time.After(4 * time.Second)
		if err := victim.Node.Halted(); err != nil {
			t.Errorf("it believed a rumour of 4 s: %v", err)
		}
		<-time.After(5 * time.Second)
		if err := victim.Fatal(); !errors.Is(err, cluster.ErrRemoved) || !strings.Contains(err.Error(), "removed") {
			t.Errorf("the removed node halted for %v", err)
		}
		if now := l.Node.Stats(); !l.Node.IsLeader() || now.Term != term {
			t.Errorf("the removed node disturbed the others: term %d, then %d", term, now.Term)
		}
		if err := l.Node.StepDown(timeout(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		next := c.Leader(l)
		<-time.After(2 * interval)
		if gossip.says(l.ID) != nil || gossip.says(next.ID) == nil {
			t.Errorf("the old leader spreads %v, the new one %v", gossip.says(l.ID), gossip.says(next.ID))
		}
		c.Kill(victim)
		gossip.hear()
		<-time.After(2 * interval)
		if said := gossip.says(next.ID); said != nil {
			t.Errorf("%v is spread although the node is gone", said)
		}
		liar := ear{gossip, "liar"}
		if err := liar.Disown(context.Background(), []string{"n0", "n1", "n2", "n3", "n4"}); err != nil {
			t.Fatal(err)
		}
		f := c.Follower()
		<-time.After(10 * time.Second)
		c.Network.Isolate(f.ID)
		<-time.After(10 * time.Second)
		for _, r := range others(c, victim) {
			if err := r.Node.Halted(); err != nil {
				t.Errorf("%s halted for a rumour: %v", r.ID, err)
			}
		}
	})
}
