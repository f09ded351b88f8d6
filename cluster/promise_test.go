package cluster_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/cluster/clustertest"
)

// acknowledgedByTwo makes a cluster of three in which an entry was acknowledged
// by the leader and one follower, and to the client; then both were killed, the
// follower before it knew that the entry was committed. The third lacks it.
func acknowledgedByTwo(t *testing.T) (c *clustertest.Cluster, leader, holder, lacks *clustertest.Replica, from uint64) {
	c = clustertest.New(t, 41, 3, nil)
	leader = c.Leader()
	holder, lacks = others(c, leader)[0], others(c, leader)[1]
	propose(t, leader.Node, put("k", "old"))
	<-time.After(time.Second)
	c.Network.Isolate(lacks.ID)
	r := propose(t, leader.Node, put("k", "new"))
	c.Kill(holder)
	c.Kill(leader)
	c.Network.Heal()
	if index, _ := holder.Ledger.Applied(); index >= r.Index {
		t.Fatalf("the follower applied entry %d already: the scene is wrong", r.Index)
	}
	return c, leader, holder, lacks, r.Index
}

func value(r *clustertest.Replica) string {
	got, _ := r.Ledger.Get("k")
	return string(got.Value)
}

// L11: a node whose log lost an entry that it had acknowledged, and that was
// counted, must not elect a leader who lacks it. Cut off without a note, it does,
// and an acknowledged write is gone. With the note there is no leader until one
// comes who has it; then the node gets it back and votes again.
func TestL11LostTailElectsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, holder, lacks, from := acknowledgedByTwo(t)
		defer c.Close()
		if err := holder.Log.DeleteRange(from, from+100); err != nil {
			t.Fatal(err)
		}
		c.Start(holder)
		l := c.Leader()
		propose(t, l.Node, put("other", "x"))
		if value(holder) != "old" || value(lacks) != "old" {
			t.Error("cut without a note: nothing was lost; the test shows nothing")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c, leader, holder, lacks, from := acknowledgedByTwo(t)
		defer c.Close()
		if err := cluster.GiveUpTail(holder.ID, from, holder.Log, holder.Log, holder.Snapshots); err != nil {
			t.Fatal(err)
		}
		last, err := holder.Log.LastIndex()
		if err != nil || last != from-1 {
			t.Fatalf("the log ends at %d, %v; want %d", last, err, from-1)
		}
		c.Start(holder)
		<-time.After(time.Minute)
		if holder.Node.IsLeader() || lacks.Node.IsLeader() {
			t.Error("a leader was elected by the node that had lost the entry")
		}
		c.Start(leader)
		l := c.Leader()
		if l != leader {
			t.Errorf("%s leads, and only %s had the entry", l.ID, leader.ID)
		}
		for _, r := range c.Replicas {
			if _, err := r.Node.ReadIndex(timeout(10 * time.Second)); err != nil || value(r) != "new" {
				t.Errorf("%s has %q, %v; want the acknowledged value", r.ID, value(r), err)
			}
		}
		// It votes again: it and the third go on without the first.
		c.Kill(leader)
		c.Leader(leader)
		propose(t, holder.Node, put("k", "newer"))
		c.Kill(holder)
		if note, err := holder.Log.GetUint64([]byte("ConclavePromised")); err != nil || note != 0 {
			t.Errorf("the note is still there: %d, %v", note, err)
		}
	})
}

// A node that owes asks nobody for a vote either, also when it is told to take
// over, and acknowledges entries meanwhile, for those it holds.
func TestNodeThatOwesAcknowledgesButNeverStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 42, 3, nil)
		defer c.Close()
		l := c.Leader()
		propose(t, l.Node, put("k", "1"))
		<-time.After(time.Second)
		victim, other := others(c, l)[0], others(c, l)[1]
		c.Kill(victim)
		last, err := victim.Log.LastIndex()
		if err != nil {
			t.Fatal(err)
		}
		// A long tail that never was committed was promised, too.
		for i := last + 1; i <= last+50; i++ {
			if err := victim.Log.StoreLog(&raft.Log{Index: i, Term: 2, Type: raft.LogNoop}); err != nil {
				t.Fatal(err)
			}
		}
		if err := cluster.GiveUpTail(victim.ID, last+1, victim.Log, victim.Log, victim.Snapshots); err != nil {
			t.Fatal(err)
		}
		c.Start(victim)
		c.Kill(other)
		propose(t, l.Node, put("k", "2")) // only with the victim is there a quorum
		if err := l.Node.TransferLeadership(timeout(5*time.Second), victim.ID); err == nil {
			t.Error("leadership went to a node that owes")
		}
		for i := range 60 {
			propose(t, c.Leader().Node, put("k", fmt.Sprint(i)))
		}
		<-time.After(time.Second)
		if err := c.Leader().Node.TransferLeadership(timeout(5*time.Second), victim.ID); err != nil {
			t.Errorf("the node has everything again, but: %v", err)
		}
	})
}

// A crash between note and cut leaves a node that abstains; giving up again goes
// on where it was. Nothing is given up where nobody else could have it.
func TestGiveUpTailRefusesAndRepeats(t *testing.T) {
	voters := func(ids ...string) []byte {
		var c raft.Configuration
		for _, id := range ids {
			c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
		}
		return raft.EncodeConfiguration(c)
	}
	fill := func(d *clustertest.Disk, configurations ...[]byte) {
		for i, c := range configurations {
			l := &raft.Log{Index: uint64(i + 1), Term: 1, Type: raft.LogNoop}
			if c != nil {
				l.Type, l.Data = raft.LogConfiguration, c
			}
			if err := d.StoreLog(l); err != nil {
				t.Fatal(err)
			}
		}
	}
	none := raft.NewInmemSnapshotStore()
	alone := clustertest.NewDisk()
	fill(alone, voters("a"), nil, voters("a", "b", "c"), nil)
	if err := cluster.GiveUpTail("a", 3, alone, alone, none); !errors.Is(err, cluster.ErrSoleVoter) {
		t.Errorf("what is left knows one voter: %v", err)
	}
	if last, err := alone.LastIndex(); last != 4 || err != nil {
		t.Errorf("refused, and the log ends at %d, %v", last, err)
	}
	if err := cluster.GiveUpTail("a", 4, alone, alone, none); err != nil {
		t.Errorf("what is left knows three voters: %v", err)
	}
	again := clustertest.NewDisk()
	fill(again, voters("a", "b", "c"), nil, nil, nil, nil)
	broken := errors.New("input/output error")
	for i, at := range []uint64{5, 3} {
		if err := cluster.GiveUpTail("a", at, again, again, none); err != nil {
			t.Fatal(err)
		}
		note, err := again.GetUint64([]byte("ConclavePromised"))
		last, lerr := again.LastIndex()
		if note != 5 || last != at-1 || errors.Join(err, lerr) != nil {
			t.Errorf("cut %d at %d: promised %d, the log ends at %d, %v", i, at, note, last, errors.Join(err, lerr))
		}
	}
	again.FailWith(broken)
	if err := cluster.GiveUpTail("a", 2, again, again, none); !errors.Is(err, broken) {
		t.Errorf("a note that could not be written: %v", err)
	}
	again.FailWith(nil)
	if last, err := again.LastIndex(); last != 2 || err != nil {
		t.Errorf("without a note the log was cut to %d, %v", last, err)
	}
}
