package core

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// behind is a ledger that applies nothing until it is told to.
type behind struct {
	*single
	catchUp chan struct{}
}

func (l *behind) WaitApplied(ctx context.Context, _ uint64) error {
	select {
	case <-l.catchUp:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A node that is behind waits a little for an index that a caller demands, and then
// says that it has not got it, so that the caller can ask another node.
func TestIndexNotReached(t *testing.T) {
	ledger := newSingle(t)
	synctest.Test(t, func(t *testing.T) {
		l := &behind{ledger, make(chan struct{})}
		v := &views{ledger: l, clock: &handClock{}}
		at := &conclavev1.ReadOptions{Consistency: conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX, AtLeastIndex: 9}
		began := time.Now()
		_, err := v.open(t.Context(), at)
		want(t, err, conclavev1.Reason_REASON_INDEX_NOT_REACHED)
		if waited := time.Since(began); waited != indexPatience {
			t.Errorf("it waited %v", waited)
		}
		v.patience = time.Second
		began = time.Now()
		_, err = v.open(t.Context(), at)
		want(t, err, conclavev1.Reason_REASON_INDEX_NOT_REACHED)
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("it waited %v", waited)
		}
		// A caller that is gone sooner is not told anything about the index.
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err = v.open(short, at); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller that has gone: %v", err)
		}
		go func() {
			time.Sleep(v.patience / 2)
			close(l.catchUp)
		}()
		view, err := v.open(t.Context(), at)
		if err != nil {
			t.Fatalf("a node that catches up in time: %v", err)
		}
		if err := view.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What one node vouches for, all nodes of the cluster know again, and nobody else's.
func TestVouch(t *testing.T) {
	h, other := newHouse(t), newHouse(t)
	if err := h.gate.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.pipeline.Vouch("index", "x"); reason(err) != conclavev1.Reason_REASON_SEALED {
		t.Errorf("a sealed node: %v", err)
	}
	h.unseal()
	vouch := func(h *house, kind, text string) string {
		t.Helper()
		hash, err := h.pipeline.Vouch(kind, text)
		if err != nil || len(hash) != 32 {
			t.Fatalf("%x %v", hash, err)
		}
		return string(hash)
	}
	first := vouch(h, "index", "x")
	if again := vouch(h, "index", "x"); again != first {
		t.Error("it does not vouch for the same twice")
	}
	for name, hash := range map[string]string{"text": vouch(h, "index", "y"), "kind": vouch(h, "other", "x"), "cluster": vouch(other, "index", "x")} {
		if hash == first {
			t.Errorf("another %s has the same hash", name)
		}
	}
}
