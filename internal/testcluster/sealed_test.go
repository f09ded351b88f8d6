package testcluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func put(t testing.TB, s *testcluster.Sim, r *testcluster.Replica, path, value string) error {
	t.Helper()
	p := r.Process()
	_, err := core.Call(within(t, 5*time.Second), p.Pipeline, s.Root(), "secret/", p.Secrets.Put(), &conclavev1.PutSecretRequest{
		Path: path, Data: map[string]*conclavev1.Field{"v": {Kind: &conclavev1.Field_Text{Text: value}}}})
	return err
}

func get(t testing.TB, s *testcluster.Sim, r *testcluster.Replica, path string) (string, error) {
	t.Helper()
	p := r.Process()
	resp, err := core.Call(within(t, 5*time.Second), p.Pipeline, s.Root(), "secret/", p.Secrets.Get(), &conclavev1.GetSecretRequest{Path: path})
	return resp.GetSecret().GetData()["v"].GetText(), err
}

// start makes a cluster that is closed when the bubble's function returns.
func start(t testing.TB, o testcluster.Options) (*testcluster.Sim, func()) {
	t.Helper()
	s, err := testcluster.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
}

func restart(t testing.TB, r *testcluster.Replica, how testcluster.Death) {
	t.Helper()
	r.Kill(how)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
}

// leader waits until one of among leads.
func leader(t testing.TB, s *testcluster.Sim, among ...*testcluster.Replica) *testcluster.Replica {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		l := s.Leader()
		for _, r := range among {
			if r == l {
				return l
			}
		}
	}
	t.Fatal("none of the wanted nodes leads within a minute")
	return nil
}

// A sealed node is a full replica: after all three restart, unsealing one is
// enough to read and write; the sealed two vote, persist and apply, and hold the
// same state. (Issue 2, point 1.)
func TestOneUnsealedNodeServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, done := start(t, testcluster.Options{Seed: 1})
		defer done()
		if err := put(t, s, s.Replicas[0], "before", "kept"); err != nil {
			t.Fatal(err)
		}
		for _, r := range s.Replicas {
			restart(t, r, testcluster.PowerCut)
		}
		one := s.Replicas[1]
		var sealed *core.Error
		if err := put(t, s, one, "k", "v"); !errors.As(err, &sealed) || sealed.Reason != conclavev1.Reason_REASON_SEALED {
			t.Fatalf("write on a sealed node: %v, want sealed", err)
		}
		if err := one.Unseal(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got, err := get(t, s, one, "before"); got != "kept" || err != nil {
			t.Errorf("a secret from before the restart: %q, %v", got, err)
		}
		for i := range 20 {
			want := fmt.Sprint("value ", i)
			if err := put(t, s, one, "k", want); err != nil {
				t.Fatalf("write %d with two nodes sealed: %v", i, err)
			}
			if got, err := get(t, s, one, "k"); got != want || err != nil {
				t.Errorf("read %d with two nodes sealed: %q, %v; want %q", i, got, err, want)
			}
		}
		if err := s.Converge(within(t, time.Minute)); err != nil {
			t.Error(err)
		}
		for _, r := range []*testcluster.Replica{s.Replicas[0], s.Replicas[2]} {
			p := r.Process()
			if !p.Gate.Sealed() {
				t.Errorf("%s is not sealed", r.ID)
			}
			if at, _ := p.Machine.Applied(); at == 0 {
				t.Errorf("%s, sealed, applied nothing", r.ID)
			}
		}
	})
}

// The two sealed nodes are a quorum: with the unsealed node's disk as the only
// other copy cut off, they elect a leader and keep what was acknowledged. What
// the unsealed one acknowledged before, it finds again after it came back.
func TestSealedNodesVoteAndPersist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, done := start(t, testcluster.Options{Seed: 2})
		defer done()
		one, a, b := s.Replicas[0], s.Replicas[1], s.Replicas[2]
		for _, r := range []*testcluster.Replica{a, b} {
			if err := r.Seal(); err != nil {
				t.Fatal(err)
			}
		}
		leader(t, s, one) // sealed leaders hand over
		if err := put(t, s, one, "k", "acknowledged"); err != nil {
			t.Fatal(err)
		}
		one.Kill(testcluster.PowerCut)
		sealedLeader := leader(t, s, a, b)
		at, _ := sealedLeader.Process().Machine.Applied()
		restart(t, a, testcluster.PowerCut)
		restart(t, b, testcluster.PowerCut)
		next := leader(t, s, a, b)
		if err := next.Process().Node.WaitApplied(within(t, time.Minute), at); err != nil {
			t.Errorf("sealed nodes lost entries over a power cut: %v", err)
		}
		if err := one.Start(); err != nil {
			t.Fatal(err)
		}
		if err := one.Unseal(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		if got, err := get(t, s, one, "k"); got != "acknowledged" || err != nil {
			t.Errorf("after the return: %q, %v", got, err)
		}
		if err := s.Converge(within(t, time.Minute)); err != nil {
			t.Error(err)
		}
	})
}

// A sealed leader hands over to the unsealed voter, and leadership stays there.
func TestSealedLeaderHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, done := start(t, testcluster.Options{Seed: 3})
		defer done()
		for round := range 6 {
			old := leader(t, s, s.Replicas...)
			var heir *testcluster.Replica
			for i, r := range s.Replicas {
				if r == old {
					heir = s.Replicas[(i+1+round%2)%3]
				}
			}
			for _, r := range s.Replicas {
				if r == heir {
					continue
				}
				if err := r.Seal(); err != nil {
					t.Fatal(err)
				}
			}
			began := time.Now()
			leader(t, s, heir)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("round %d: the handover to %s took %v", round, heir.ID, took)
			}
			if err := put(t, s, heir, "k", fmt.Sprint(round)); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
			for _, r := range s.Replicas {
				if err := r.Unseal(within(t, time.Minute)); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
