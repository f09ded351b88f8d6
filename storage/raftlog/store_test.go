package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"
)

func quiet(o Options) Options {
	o.Logger = slog.New(slog.DiscardHandler)
	return o
}

func mustNew(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := New(quiet(o))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func batch(term, from, to uint64) (logs []*raft.Log) {
	for i := from; i <= to; i++ {
		logs = append(logs, entry(i, term))
	}
	return logs
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantSpan(t testing.TB, s *Store, first, last uint64) {
	t.Helper()
	f, err := s.FirstIndex()
	must(t, err)
	l, err := s.LastIndex()
	must(t, err)
	if f != first || l != last {
		t.Fatalf("the log spans %d to %d, want %d to %d", f, l, first, last)
	}
}

func wantEntry(t testing.TB, s *Store, want *raft.Log) {
	t.Helper()
	var got raft.Log
	must(t, s.GetLog(want.Index, &got))
	if !got.AppendedAt.Equal(want.AppendedAt) {
		t.Fatalf("entry %d: appended at %v, want %v", want.Index, got.AppendedAt, want.AppendedAt)
	}
	got.AppendedAt = want.AppendedAt
	if !reflect.DeepEqual(&got, want) {
		t.Fatalf("got %+v, want %+v", got, *want)
	}
}

// A closed store says so; to close it once more is no error. (What Raft relies on
// while it is open: TestLogStore and TestStableStore.)
func TestClosed(t *testing.T) {
	s := mustNew(t, Options{Inner: NewMemory()})
	must(t, s.StoreLogs(batch(1, 5, 9)))
	must(t, s.Verify(context.Background(), 0, 1000)) // verifies what there is
	must(t, s.Close())
	must(t, s.Close())
	if err := s.StoreLog(entry(10, 1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("StoreLog after Close: %v", err)
	}
	var e raft.Log
	if err := s.GetLog(5, &e); !errors.Is(err, ErrClosed) {
		t.Fatalf("GetLog after Close: %v", err)
	}
}

// A candidate without a term is refused and writes nothing; it does not fail the store.
func TestCandidateNeedsTerm(t *testing.T) {
	s := mustNew(t, Options{Inner: NewMemory()})
	if err := s.Set([]byte(keyVoteCand), []byte("n1")); err == nil || errors.Is(err, ErrFailed) {
		t.Fatalf("got %v", err)
	}
	must(t, s.SetUint64([]byte(keyVoteTerm), 3))
	if _, err := s.GetUint64([]byte(keyVoteTerm)); !errors.Is(err, ErrKeyNotFound) {
		t.Fatalf("a term without a candidate is a vote: %v", err)
	}
	must(t, s.Set([]byte(keyVoteCand), []byte("n1")))
	if err := s.Set([]byte(keyVoteCand), []byte("n2")); err == nil {
		t.Fatal("a second candidate took the first one's term")
	}
}

// L8: a write that would leave a hole or overwrite shows that Raft and the disk
// have parted; the store stops before it writes.
func TestHolesFailTheStore(t *testing.T) {
	for name, write := range map[string]func(*Store) error{
		"gap":           func(s *Store) error { return s.StoreLogs(batch(1, 7, 8)) },
		"overlap":       func(s *Store) error { return s.StoreLogs(batch(1, 5, 6)) },
		"batch gap":     func(s *Store) error { return s.StoreLogs([]*raft.Log{entry(6, 1), entry(8, 1)}) },
		"zero":          func(s *Store) error { return s.StoreLog(entry(0, 1)) },
		"middle delete": func(s *Store) error { return s.DeleteRange(2, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			inner := NewMemory()
			s := mustNew(t, Options{Inner: inner})
			must(t, s.StoreLogs(batch(1, 1, 5)))
			if err := write(s); !errors.Is(err, ErrHole) || !errors.Is(err, ErrFailed) {
				t.Fatalf("got %v", err)
			}
			if last, _ := inner.LastIndex(); last != 5 || len(inner.entries) != 5 {
				t.Fatalf("the inner store was written: %d entries to %d", len(inner.entries), last)
			}
		})
	}
}

// L8: after the first error nothing reaches the inner store, no call succeeds,
// and Fail is told once. Errors that follow a write that took effect included.
func TestFailStop(t *testing.T) {
	disk := errors.New("input/output error")
	writes := map[string]func(*Store) error{
		"StoreLogs":   func(s *Store) error { return s.StoreLogs(batch(1, 6, 7)) },
		"DeleteRange": func(s *Store) error { return s.DeleteRange(1, 2) },
		"Set":         func(s *Store) error { return s.SetUint64([]byte(keyCurrentTerm), 9) },
	}
	for op := range writes {
		for _, at := range []string{op, op + " applied"} {
			t.Run(at, func(t *testing.T) {
				inner := NewMemory()
				var told []error
				s := mustNew(t, Options{Inner: inner, Fail: func(err error) { told = append(told, err) }})
				must(t, s.StoreLogs(batch(1, 1, 5)))
				inner.SetFault(func(o string) error {
					if o == at {
						return disk
					}
					return nil
				})
				if err := writes[op](s); !errors.Is(err, disk) || !errors.Is(err, ErrFailed) {
					t.Fatalf("got %v", err)
				}
				var reached []string
				inner.SetFault(func(o string) error { // the disk is well again, and watched
					reached = append(reached, o)
					return nil
				})
				everyCallFails(t, s)
				if len(reached) != 0 {
					t.Errorf("after the failure the inner store saw %v", reached)
				}
				if len(told) != 1 || !errors.Is(told[0], disk) || !errors.Is(told[0], ErrFailed) {
					t.Errorf("Fail was told %v", told)
				}
				must(t, s.Close())
			})
		}
	}
}

func everyCallFails(t *testing.T, s *Store) {
	t.Helper()
	var e raft.Log
	_, get := s.Get([]byte(keyCurrentTerm))
	_, get64 := s.GetUint64([]byte(keyCurrentTerm))
	_, first := s.FirstIndex()
	_, last := s.LastIndex()
	for name, err := range map[string]error{
		"StoreLog": s.StoreLog(entry(6, 1)), "StoreLogs": s.StoreLogs(batch(1, 6, 7)), "no logs": s.StoreLogs(nil),
		"DeleteRange": s.DeleteRange(1, 5), "GetLog": s.GetLog(1, &e), "Peek": s.Peek(1, &e),
		"Set": s.Set([]byte("k"), nil), "SetUint64": s.SetUint64([]byte(keyCurrentTerm), 9),
		"vote term": s.SetUint64([]byte(keyVoteTerm), 9), "vote": s.Set([]byte(keyVoteCand), []byte("x")),
		"Get": get, "GetUint64": get64, "FirstIndex": first, "LastIndex": last,
		"Verify": s.Verify(context.Background(), 1, 5), "CheckAgainst": s.CheckAgainst(0, 0),
	} {
		if !errors.Is(err, ErrFailed) {
			t.Errorf("%s after the failure: %v", name, err)
		}
	}
}

// A panic inside the inner store (bbolt on a page that contradicts itself) is
// an integrity failure and not the end of the process.
func TestInnerPanicFailsTheStore(t *testing.T) {
	inner := NewMemory()
	s := mustNew(t, Options{Inner: inner})
	inner.SetFault(func(op string) error { panic(fmt.Sprint("page 7 is no leaf: ", op)) })
	if err := s.StoreLog(entry(1, 1)); !errors.Is(err, ErrRotten) || !errors.Is(err, ErrFailed) {
		t.Fatalf("got %v", err)
	}
}
