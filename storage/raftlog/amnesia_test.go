package raftlog

import (
	"errors"
	"testing"
)

// L10: each way in which a log can have lost what the node acknowledged is
// refused; each healthy picture passes.
func TestCheckAgainst(t *testing.T) {
	type picture struct {
		name               string
		from, to           uint64 // the log, 0 for none
		term, vote         uint64 // stored, 0 for none
		applied, snapshot  uint64
		amnesia            bool
		entriesAreFromTerm uint64
	}
	for _, p := range []picture{
		{name: "new node"},
		{name: "log only", from: 1, to: 9, term: 2, applied: 9, entriesAreFromTerm: 2},
		{name: "machine behind", from: 1, to: 9, term: 2, vote: 2, applied: 4, entriesAreFromTerm: 2},
		{name: "compacted", from: 6, to: 9, term: 2, applied: 9, snapshot: 5, entriesAreFromTerm: 2},
		{name: "trailing entries", from: 3, to: 9, term: 2, applied: 9, snapshot: 5, entriesAreFromTerm: 2},
		{name: "just installed a snapshot", term: 2, applied: 50, snapshot: 50},
		{name: "installation interrupted", from: 1, to: 9, term: 2, applied: 50, snapshot: 50, entriesAreFromTerm: 2},
		{name: "log lost", term: 2, applied: 9, amnesia: true},
		{name: "log and term lost", applied: 9, amnesia: true},
		{name: "log cut", from: 1, to: 8, term: 2, applied: 9, entriesAreFromTerm: 2, amnesia: true},
		{name: "log and snapshot cut", from: 6, to: 8, term: 2, applied: 9, snapshot: 5, entriesAreFromTerm: 2, amnesia: true},
		{name: "snapshot lost", from: 6, to: 9, term: 2, applied: 9, entriesAreFromTerm: 2, amnesia: true},
		{name: "newest snapshot lost", from: 6, to: 9, term: 2, applied: 9, snapshot: 4, entriesAreFromTerm: 2, amnesia: true},
		{name: "term lost", from: 1, to: 9, applied: 9, entriesAreFromTerm: 2, amnesia: true},
		{name: "term lost, only a snapshot", applied: 5, snapshot: 5, amnesia: true},
		{name: "term set back", from: 1, to: 9, term: 2, applied: 9, entriesAreFromTerm: 3, amnesia: true},
		{name: "term older than vote", from: 1, to: 9, term: 2, vote: 3, applied: 9, entriesAreFromTerm: 2, amnesia: true},
	} {
		t.Run(p.name, func(t *testing.T) {
			s := mustNew(t, Options{Inner: NewMemory()})
			if p.term != 0 {
				must(t, s.SetUint64([]byte(keyCurrentTerm), p.term))
			}
			if p.vote != 0 {
				must(t, s.SetUint64([]byte(keyVoteTerm), p.vote))
				must(t, s.Set([]byte(keyVoteCand), []byte("n1")))
			}
			if p.to != 0 {
				must(t, s.StoreLogs(batch(p.entriesAreFromTerm, p.from, p.to)))
			}
			err := s.CheckAgainst(p.applied, p.snapshot)
			if errors.Is(err, ErrAmnesia) != p.amnesia || (err != nil) != p.amnesia {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// After a restart behind an installed snapshot Raft appends behind a gap, and the
// covered entries go. Any other gap stays refused.
func TestInterruptedInstallation(t *testing.T) {
	s := mustNew(t, Options{Inner: NewMemory()})
	must(t, s.SetUint64([]byte(keyCurrentTerm), 2))
	must(t, s.StoreLogs(batch(2, 1, 9)))
	must(t, s.CheckAgainst(50, 50))
	wantSpan(t, s, 1, 9) // untouched until Raft moves on
	must(t, s.StoreLogs(batch(2, 51, 52)))
	wantSpan(t, s, 51, 52)
	if err := s.StoreLogs(batch(2, 54, 54)); !errors.Is(err, ErrHole) {
		t.Fatalf("got %v", err)
	}

	beyond := mustNew(t, Options{Inner: NewMemory()})
	must(t, beyond.SetUint64([]byte(keyCurrentTerm), 2))
	must(t, beyond.StoreLogs(batch(2, 1, 9)))
	must(t, beyond.CheckAgainst(50, 50))
	if err := beyond.StoreLogs(batch(2, 52, 52)); !errors.Is(err, ErrHole) {
		t.Fatalf("entry 52 after snapshot 50: %v", err)
	}
}

// A store of a later release, and content without a format number, are refused.
func TestFormatNumber(t *testing.T) {
	later := NewMemory()
	s := mustNew(t, Options{Inner: later})
	must(t, s.SetUint64([]byte(keyFormat), storeFormat+1))
	if _, err := New(quiet(Options{Inner: later})); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("later format: %v", err)
	}
	foreign := NewMemory()
	must(t, foreign.StoreLog(entry(1, 1)))
	if _, err := New(quiet(Options{Inner: foreign})); !errors.Is(err, ErrRotten) {
		t.Errorf("content without format: %v", err)
	}
}
