package raftlog

import (
	"context"
	"errors"
	"testing"

	"github.com/hashicorp/raft"
)

// L11: before Raft runs, rot that a peer can supply is repaired; the first that
// none can is named, the Store goes on, and the log may be cut there.
func TestMend(t *testing.T) {
	inner := NewMemory()
	unreachable := errors.New("no peer has it")
	s := mustNew(t, Options{Inner: inner,
		Fail: func(err error) { t.Errorf("failed: %v", err) },
		Repair: func(i uint64) (*raft.Log, error) {
			if i > 6 {
				return nil, unreachable
			}
			return entry(i, 3), nil
		}})
	must(t, s.SetUint64([]byte(keyCurrentTerm), 3))
	must(t, s.StoreLogs(batch(3, 1, 9)))
	inner.Corrupt(2) // below what is asked for: Raft never reads it again
	inner.Corrupt(5)
	inner.Lose(6)
	must(t, s.Mend(context.Background(), 4))
	wantEntry(t, s, entry(5, 3))
	wantEntry(t, s, entry(6, 3))

	inner.Corrupt(8)
	inner.Corrupt(9)
	var rot *RotError
	err := s.Mend(context.Background(), 4)
	if !errors.As(err, &rot) || rot.Index != 8 || !errors.Is(err, unreachable) || errors.Is(err, ErrFailed) {
		t.Fatalf("got %v", err)
	}
	must(t, s.DeleteRange(rot.Index, 9))
	must(t, s.Mend(context.Background(), 4))
	must(t, s.StoreLogs(batch(4, 8, 9)))
	wantSpan(t, s, 1, 9)
	wantEntry(t, s, entry(8, 4))
}

// Mend on an empty log, behind its end and after Close.
func TestMendAtTheEdges(t *testing.T) {
	s := mustNew(t, Options{Inner: NewMemory()})
	must(t, s.Mend(context.Background(), 1))
	must(t, s.StoreLogs(batch(3, 1, 3)))
	must(t, s.Mend(context.Background(), 4))
	must(t, s.Close())
	if err := s.Mend(context.Background(), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
