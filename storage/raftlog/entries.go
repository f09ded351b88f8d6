package raftlog

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// FirstIndex returns the index of the oldest entry, 0 if there is none.
func (s *Store) FirstIndex() (uint64, error) {
	first, _, err := s.bounds()
	return first, err
}

// LastIndex returns the index of the newest entry, 0 if there is none.
func (s *Store) LastIndex() (uint64, error) {
	_, last, err := s.bounds()
	return last, err
}

func (s *Store) bounds() (first, last uint64, err error) {
	if err := s.usable(); err != nil {
		return 0, 0, err
	}
	err = guarded(func() (err error) {
		if first, err = s.inner.FirstIndex(); err != nil {
			return err
		}
		last, err = s.inner.LastIndex()
		return err
	})
	if err != nil {
		return 0, 0, s.readFailure("reading the bounds of the raft log", err)
	}
	return first, last, nil
}

// StoreLog stores one entry; see [Store.StoreLogs].
func (s *Store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs appends entries in one transaction: all are durable when it returns
// nil. They must be contiguous and follow the last entry (an empty log accepts
// any start). The entries are not retained and not modified.
//
// After Raft installed or restored a snapshot it appends behind a gap. Such an
// append first drops the older entries, which the snapshot covers, so that the
// log never has a hole and a missing entry can be told from one that was never
// there. A gap that no snapshot explains fails the Store.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return s.usable()
	}
	sealed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		sealed[i] = sealEntry(l)
	}
	op := fmt.Sprintf("storing raft log entries %d to %d", logs[0].Index, logs[len(logs)-1].Index)
	return s.write(op, func() error {
		if err := s.makeContiguous(logs); err != nil {
			return err
		}
		return s.inner.StoreLogs(sealed)
	})
}

// makeContiguous checks that logs can follow what is stored. Caller holds the turn.
func (s *Store) makeContiguous(logs []*raft.Log) error {
	for i, l := range logs {
		if l.Index == 0 || l.Index != logs[0].Index+uint64(i) {
			return fmt.Errorf("entry %d at position %d of a batch starting at %d: %w", l.Index, i, logs[0].Index, ErrHole)
		}
	}
	first, err := s.inner.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.inner.LastIndex()
	if err != nil {
		return err
	}
	start := logs[0].Index
	if last == 0 || start == last+1 {
		return nil
	}
	covered, err := s.coveredIndex()
	if err != nil {
		return err
	}
	if start <= last || start > covered+1 {
		return fmt.Errorf("the log ends at %d, the newest snapshot at %d: %w", last, covered, ErrHole)
	}
	s.logger.Info("dropping raft log entries that a snapshot covers", "from", first, "to", last, "snapshot", covered)
	return s.inner.DeleteRange(first, last)
}

// coveredIndex returns the index up to which a snapshot holds what entries did.
// Caller holds the turn.
func (s *Store) coveredIndex() (uint64, error) {
	if s.snapshot == nil {
		return s.covered, nil
	}
	newest, err := s.snapshot()
	if err != nil {
		return 0, fmt.Errorf("asking for the newest snapshot: %w", err)
	}
	return max(newest, s.covered), nil
}

// DeleteRange removes the entries min to max, durable when it returns nil. Raft
// removes a prefix (compaction), a suffix (conflict) or everything; a range that
// would leave a hole fails the Store.
func (s *Store) DeleteRange(min, max uint64) error {
	op := fmt.Sprintf("deleting raft log entries %d to %d", min, max)
	return s.write(op, func() error {
		first, err := s.inner.FirstIndex()
		if err != nil {
			return err
		}
		last, err := s.inner.LastIndex()
		if err != nil {
			return err
		}
		if min > max || last == 0 || max < first || min > last {
			return nil
		}
		if min > first && max < last {
			return fmt.Errorf("the log spans %d to %d: %w", first, last, ErrHole)
		}
		if err := s.inner.DeleteRange(min, max); err != nil {
			return err
		}
		return s.checkDeleted(min, max)
	})
}

// checkDeleted confirms that nothing in the range is left: an entry that outlived
// its deletion would come back as truth after a restart.
func (s *Store) checkDeleted(min, max uint64) error {
	first, err := s.inner.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.inner.LastIndex()
	if err != nil {
		return err
	}
	if last != 0 && (first >= min && first <= max || last >= min && last <= max) { // 0 to 0 is an empty log
		return fmt.Errorf("the log still spans %d to %d: %w", first, last, ErrRotten)
	}
	return nil
}

// GetLog reads and verifies entry index into log, whose slices then belong to
// the caller. An index outside the log is raft.ErrLogNotFound. A rotten entry,
// one missing inside the log included, is never returned: it is fetched from a
// peer and rewritten, or the Store fails.
func (s *Store) GetLog(index uint64, log *raft.Log) error {
	err := s.Peek(index, log)
	var rot *RotError
	if !errors.As(err, &rot) {
		return err
	}
	return s.replace(rot, log)
}

// Peek is GetLog without repair: a rotten entry is a [*RotError], and the Store
// does not fail. It is for serving a peer's repair, where asking a peer in turn
// could go round in circles.
func (s *Store) Peek(index uint64, log *raft.Log) error {
	if err := s.usable(); err != nil {
		return err
	}
	err := s.read(index, log)
	if err == nil {
		return nil
	}
	if errors.Is(err, raft.ErrLogNotFound) {
		first, last, err := s.bounds()
		if err != nil {
			return err
		}
		if index < first || index > last || last == 0 {
			return raft.ErrLogNotFound // compared with ==, so never wrapped
		}
	}
	// A truncation or an append between the two looks may have fooled us: look
	// again while nobody writes.
	if err := s.acquire(); err != nil {
		return err
	}
	defer s.release()
	return s.readHeld(index, log)
}

// readHeld reads entry index while nobody writes: missing is now either rot or
// raft.ErrLogNotFound. Caller holds the turn.
func (s *Store) readHeld(index uint64, log *raft.Log) error {
	err := s.read(index, log)
	if !errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	first, last, err := s.bounds()
	if err != nil {
		return err
	}
	if index < first || index > last || last == 0 {
		return raft.ErrLogNotFound
	}
	return &RotError{Index: index, Reason: fmt.Sprintf("it is missing from a log that spans %d to %d", first, last)}
}

// read reads and verifies entry index once. It returns nil, raft.ErrLogNotFound,
// [ErrClosed] or a [*RotError].
func (s *Store) read(index uint64, log *raft.Log) error {
	var e raft.Log
	err := guarded(func() error { return s.inner.GetLog(index, &e) })
	switch {
	case errors.Is(err, raft.ErrLogNotFound):
		return raft.ErrLogNotFound
	case err != nil && s.closed.Load():
		return ErrClosed
	case err != nil:
		// The cause may quote stored bytes, so it is named by its type only.
		return &RotError{Index: index, Reason: fmt.Sprintf("it cannot be decoded (%T)", err)}
	}
	if rot := openEntry(index, &e); rot != nil {
		return rot
	}
	*log = e
	return nil
}
