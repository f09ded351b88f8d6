package raftlog

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/hashicorp/raft"
)

// replace is mend for Raft, which cannot go on without the entry: what no peer
// can supply fails the Store.
func (s *Store) replace(rot *RotError, log *raft.Log) error {
	err := s.mend(rot, log)
	if errors.Is(err, ErrRotten) && !errors.Is(err, ErrFailed) {
		return s.fail(err)
	}
	return err
}

// mend obtains the entry that rot names from a peer, rewrites it and returns it
// in log. Rot is never truncated here: the entry was acknowledged, perhaps counted
// towards a commit, and cutting the log there would take that promise back. When
// no peer supplies a fit entry, the error wraps rot and the Store goes on.
func (s *Store) mend(rot *RotError, log *raft.Log) error {
	repair := s.repair.Load()
	if repair == nil {
		return fmt.Errorf("%w; no peer to fetch it from", rot)
	}
	// Not under the turn: the network may be slow, and Raft must go on voting.
	fresh, err := (*repair)(rot.Index)
	if err != nil {
		return fmt.Errorf("%w; fetching it from a peer: %w", rot, err)
	}
	if err := s.fits(rot, fresh); err != nil {
		return fmt.Errorf("%w; %w", rot, err)
	}
	if err := s.acquire(); err != nil {
		return err
	}
	defer s.release()
	err = s.readHeld(rot.Index, log)
	if !errors.As(err, new(*RotError)) {
		return err // somebody else repaired it, or Raft removed it meanwhile
	}
	op := fmt.Sprintf("rewriting rotten raft log entry %d", rot.Index)
	if err := s.writeHeld(op, func() error { return s.inner.StoreLog(sealEntry(fresh)) }); err != nil {
		return err
	}
	if err := s.read(rot.Index, log); err != nil {
		return s.fail(fmt.Errorf("%s: reading it back: %w", op, err))
	}
	s.logger.Warn("repaired a rotten raft log entry from a peer", "index", rot.Index, "reason", rot.Reason)
	return nil
}

// fits says why fresh cannot stand for the rotten entry, or nil. If the stored
// entry was of another term than the committed one, Raft in memory holds a log
// that differs from the cluster's, and only Raft may resolve that.
func (s *Store) fits(rot *RotError, fresh *raft.Log) error {
	if fresh == nil {
		return errors.New("the peer sent no entry")
	}
	if fresh.Index != rot.Index {
		return fmt.Errorf("the peer sent entry %d", fresh.Index)
	}
	if rot.termKnown && fresh.Term != rot.term {
		return fmt.Errorf("the peer's entry is of term %d, the stored one was of term %d", fresh.Term, rot.term)
	}
	var near raft.Log
	if s.read(rot.Index-1, &near) == nil && near.Term > fresh.Term {
		return fmt.Errorf("the peer's entry is of term %d, the one before it of term %d", fresh.Term, near.Term)
	}
	if s.read(rot.Index+1, &near) == nil && near.Term < fresh.Term {
		return fmt.Errorf("the peer's entry is of term %d, the one after it of term %d", fresh.Term, near.Term)
	}
	return nil
}

// Verify is the scrub: it reads every entry from from to to (as far as the log
// reaches) as [Store.GetLog] does, so rot is repaired or fails the Store while
// peers still hold a good copy. Entries that Raft removes meanwhile are passed
// over. It returns ctx's error when ctx ends first.
func (s *Store) Verify(ctx context.Context, from, to uint64) error {
	return s.eachEntry(ctx, from, to, s.GetLog)
}

// Mend reads every entry from from to the end and repairs what is rotten, before
// Raft runs. The first entry that no peer can supply ends it with an error that
// wraps its [*RotError]. Unlike Verify it leaves the Store working, for such an
// entry may never have been committed, and then the caller may do without it
// (cluster.GiveUpTail).
func (s *Store) Mend(ctx context.Context, from uint64) error {
	return s.eachEntry(ctx, from, math.MaxUint64, func(index uint64, log *raft.Log) error {
		err := s.Peek(index, log)
		var rot *RotError
		if !errors.As(err, &rot) {
			return err
		}
		return s.mend(rot, log)
	})
}

func (s *Store) eachEntry(ctx context.Context, from, to uint64, read func(uint64, *raft.Log) error) error {
	first, last, err := s.bounds()
	if err != nil || last == 0 {
		return err
	}
	var e raft.Log
	for index := max(from, first); index <= min(to, last); index++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("verifying raft log at entry %d: %w", index, err)
		}
		if err := read(index, &e); err != nil && !errors.Is(err, raft.ErrLogNotFound) {
			return err
		}
	}
	return nil
}
