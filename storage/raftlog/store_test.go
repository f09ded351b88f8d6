package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
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

// inners runs a test over both inner stores.
func inners(t *testing.T, test func(t *testing.T, inner Inner)) {
	t.Run("memory", func(t *testing.T) { test(t, NewMemory()) })
	t.Run("bolt", func(t *testing.T) {
		inner, err := OpenBolt(t.TempDir() + "/" + FileName)
		must(t, err)
		test(t, inner)
	})
}

// The log keeps what Raft stores, deletes what Raft deletes, and answers with
// the errors that Raft compares.
func TestContract(t *testing.T) {
	inners(t, func(t *testing.T, inner Inner) {
		s := mustNew(t, Options{Inner: inner})
		wantSpan(t, s, 0, 0)
		var e raft.Log
		if err := s.GetLog(1, &e); err != raft.ErrLogNotFound {
			t.Fatalf("empty log: %v", err)
		}
		must(t, s.StoreLogs(batch(1, 5, 9))) // a log may start anywhere: after a snapshot
		must(t, s.StoreLog(entry(10, 2)))
		wantSpan(t, s, 5, 10)
		for i := uint64(5); i <= 9; i++ {
			wantEntry(t, s, entry(i, 1))
		}
		must(t, s.DeleteRange(1, 6))
		must(t, s.DeleteRange(10, 99))
		must(t, s.DeleteRange(50, 60)) // nothing there
		wantSpan(t, s, 7, 9)
		for _, absent := range []uint64{0, 6, 10} {
			if err := s.GetLog(absent, &e); err != raft.ErrLogNotFound {
				t.Fatalf("GetLog(%d): %v", absent, err)
			}
		}
		must(t, s.Verify(context.Background(), 0, 1000))
		must(t, s.DeleteRange(7, 9))
		wantSpan(t, s, 0, 0)

		if _, err := s.GetUint64([]byte(keyCurrentTerm)); err == nil || err.Error() != "not found" {
			t.Fatalf("Raft looks for the text %q, got %v", "not found", err)
		}
		if v, err := s.Get([]byte(keyVoteCand)); err == nil || err.Error() != "not found" || v != nil {
			t.Fatalf("candidate: %q, %v", v, err)
		}
		must(t, s.SetUint64([]byte(keyCurrentTerm), 7))
		must(t, s.Set([]byte("other"), []byte{}))
		must(t, s.SetUint64([]byte(keyVoteTerm), 7))
		if _, err := s.GetUint64([]byte(keyVoteTerm)); err == nil || err.Error() != "not found" {
			t.Fatalf("a term without a candidate is a vote: %v", err)
		}
		must(t, s.Set([]byte(keyVoteCand), []byte("n3")))
		term, err := s.GetUint64([]byte(keyCurrentTerm))
		must(t, err)
		voted, err := s.GetUint64([]byte(keyVoteTerm))
		must(t, err)
		cand, err := s.Get([]byte(keyVoteCand))
		must(t, err)
		other, err := s.Get([]byte("other"))
		must(t, err)
		if term != 7 || voted != 7 || string(cand) != "n3" || len(other) != 0 {
			t.Fatalf("got term %d, vote %d %q, other %q", term, voted, cand, other)
		}
		must(t, s.Close())
		must(t, s.Close())
		if err := s.StoreLog(entry(1, 1)); !errors.Is(err, ErrClosed) {
			t.Fatalf("after Close: %v", err)
		}
		if err := s.GetLog(1, &e); !errors.Is(err, ErrClosed) {
			t.Fatalf("after Close: %v", err)
		}
	})
}

// A candidate without a term is refused and writes nothing; it does not fail the store.
func TestCandidateNeedsTerm(t *testing.T) {
	s := mustNew(t, Options{Inner: NewMemory()})
	if err := s.Set([]byte(keyVoteCand), []byte("n1")); err == nil || errors.Is(err, ErrFailed) {
		t.Fatalf("got %v", err)
	}
	must(t, s.SetUint64([]byte(keyVoteTerm), 3))
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

// Readers may run beside the writer without ever taking a truncation or an
// append for rot.
func TestReadersBesideTruncation(t *testing.T) {
	inners(t, func(t *testing.T, inner Inner) {
		s := mustNew(t, Options{Inner: inner})
		must(t, s.StoreLogs(batch(1, 1, 20)))
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for r := range 2 {
			readers.Go(func() {
				var e raft.Log
				for i := uint64(r); ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if err := s.GetLog(1+i%24, &e); err != nil && err != raft.ErrLogNotFound {
						t.Errorf("GetLog(%d): %v", 1+i%24, err)
						return
					}
				}
			})
		}
		rounds := 20
		if _, ok := inner.(*Memory); ok {
			rounds = 300
		}
		for range rounds {
			must(t, s.DeleteRange(11, 20))
			must(t, s.StoreLogs(batch(2, 11, 20)))
		}
		close(stop)
		readers.Wait()
	})
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
