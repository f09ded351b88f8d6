package testcluster_test

import (
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/internal/testcluster"
)

// others are the nodes beside r.
func others(s *testcluster.Sim, r *testcluster.Replica) (all []*testcluster.Replica) {
	for _, o := range s.Replicas {
		if o != r {
			all = append(all, o)
		}
	}
	return all
}

// A leader whose log cannot be written any more halts at the first write, another takes
// over, and what was acknowledged is there on both, and on the node when it comes back.
func TestBrokenDisk(t *testing.T) {
	for _, broken := range []error{syscall.EIO, syscall.ENOSPC} {
		t.Run(broken.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, done := start(t, testcluster.Options{Seed: 4})
				defer done()
				old := leader(t, s, s.Replicas...)
				if err := put(t, s, old, "k", "acknowledged"); err != nil {
					t.Fatal(err)
				}
				old.BreakDisk(broken)
				if err := put(t, s, old, "k", "lost"); err == nil {
					t.Error("a write was acknowledged by a leader whose disk is broken")
				}
				next := leader(t, s, others(s, old)...)
				if err := old.Process().Node.Halted(); err == nil {
					t.Error("the node goes on with a broken disk")
				}
				if got, err := get(t, s, next, "k"); err != nil || got != "acknowledged" {
					t.Errorf("after the leader's disk broke: %q, %v", got, err)
				}
				restart(t, old, testcluster.Killed)
				if err := old.Unseal(within(t, time.Minute)); err != nil {
					t.Fatal(err)
				}
				if got, err := get(t, s, old, "k"); err != nil || got != "acknowledged" {
					t.Errorf("after the return: %q, %v", got, err)
				}
				if err := s.Converge(within(t, time.Minute)); err != nil {
					t.Error(err)
				}
				for _, v := range s.Violations() {
					t.Error(v)
				}
			})
		})
	}
}

// A leader whose disk hangs stops speaking as one, and halts when that lasts.
func TestHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, done := start(t, testcluster.Options{Seed: 5})
		defer done()
		old := leader(t, s, s.Replicas...)
		p := old.Process()
		began := time.Now()
		old.HangDisk(time.Minute)
		if err := put(t, s, old, "k", "lost"); err == nil {
			t.Error("a write was acknowledged by a leader whose disk hangs")
		}
		next := leader(t, s, others(s, old)...)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("another took over after %v", took)
		}
		if err := put(t, s, next, "k", "kept"); err != nil {
			t.Error(err)
		}
		<-time.After(10 * time.Second)
		if p.Node.Halted() == nil {
			t.Error("the node goes on with a disk that has hung for ten seconds")
		}
		restart(t, old, testcluster.Killed)
		if err := s.Converge(within(t, time.Minute)); err != nil {
			t.Error(err)
		}
	})
}

// A new node is taken in, becomes a voter by itself, and may go again.
func TestNewcomer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, done := start(t, testcluster.Options{Seed: 6})
		defer done()
		r := s.Newcomer()
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		l := leader(t, s, s.Replicas...).Process().Node
		if err := l.AddNonvoter(within(t, time.Minute), cluster.Peer{ID: r.ID, Address: r.ID}); err != nil {
			t.Fatal(err)
		}
		votes := func() bool {
			for _, m := range l.Members() {
				if m.ID == r.ID {
					return m.Voter
				}
			}
			return false
		}
		for i := 0; !votes(); i++ {
			if i == 100 {
				t.Fatal("no voter after ten seconds")
			}
			<-time.After(100 * time.Millisecond)
		}
		for i := range 5 {
			if err := put(t, s, s.Replicas[i%3], "k", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		at, _ := s.Replicas[1].Process().Machine.Applied()
		if err := r.Process().Node.WaitApplied(within(t, time.Minute), at); err != nil {
			t.Error(err)
		}
		if err := l.Remove(within(t, time.Minute), r.ID); err != nil {
			t.Error(err)
		}
		r.Kill(testcluster.Killed)
		if err := s.Converge(within(t, time.Minute)); err != nil {
			t.Error(err)
		}
	})
}
