package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// CheckAgainst compares the log with two witnesses that live in other files: the
// state machine's applied index and the index of the newest whole snapshot (0
// if there is none). It must be called once before raft.NewRaft. It returns an
// error wrapping [ErrAmnesia] when
//
//   - the machine applied an entry that neither log nor snapshot reaches: the
//     log was lost or replaced by an older one;
//   - the log starts after lastSnapshot+1: what lies between is nowhere;
//   - the term is missing or older than the last entry or the vote: the stable
//     store was lost or replaced.
//
// To Raft such a node looks like a fresh voter, and it might vote twice in a
// term or elect a leader without an entry that it had acknowledged (L10 in
// cluster/DESIGN.md). What this cannot see is a data directory that was set back as a whole.
func (s *Store) CheckAgainst(applied, lastSnapshot uint64) error {
	first, last, err := s.bounds()
	if err != nil {
		return err
	}
	if applied > last && applied > lastSnapshot {
		return fmt.Errorf("the state machine applied entry %d, but the log ends at %d and the newest snapshot at %d: %w",
			applied, last, lastSnapshot, ErrAmnesia)
	}
	if first > lastSnapshot+1 {
		return fmt.Errorf("the log starts at %d, but the newest snapshot ends at %d: %w", first, lastSnapshot, ErrAmnesia)
	}
	if err := s.checkTerm(last, max(applied, lastSnapshot)); err != nil {
		return err
	}
	if err := s.acquire(); err != nil {
		return err
	}
	defer s.release()
	s.covered = lastSnapshot
	return nil
}

// checkTerm compares the current term with the last entry and the vote. past is
// an index that this node has certainly reached.
func (s *Store) checkTerm(last, past uint64) error {
	if last == 0 && past == 0 {
		return nil
	}
	term, err := s.GetUint64([]byte(keyCurrentTerm))
	if errors.Is(err, ErrKeyNotFound) {
		return fmt.Errorf("the node has reached entry %d but knows no term: %w", max(last, past), ErrAmnesia)
	}
	if err != nil {
		return err
	}
	if last != 0 {
		var e raft.Log
		if err := s.GetLog(last, &e); err != nil {
			return err
		}
		if e.Term > term {
			return fmt.Errorf("entry %d is of term %d, but the stored term is %d: %w", last, e.Term, term, ErrAmnesia)
		}
	}
	v, err := s.lastVote()
	if err != nil && !errors.Is(err, ErrKeyNotFound) {
		return err
	}
	if v.term > term {
		return fmt.Errorf("the last vote is of term %d, but the stored term is %d: %w", v.term, term, ErrAmnesia)
	}
	return nil
}
