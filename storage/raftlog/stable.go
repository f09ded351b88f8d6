package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The names that hashicorp/raft v1.7.3 uses (raft.go:27), and ours.
const (
	keyCurrentTerm = "CurrentTerm"
	keyVoteTerm    = "LastVoteTerm"
	keyVoteCand    = "LastVoteCand"
	keyVote        = "LastVote" // both halves of the vote, in one value
	keyFormat      = "ConclaveFormat"
)

// storeFormat numbers the whole layout: entries, values and which keys exist.
const storeFormat = 1

// Set stores val under key, durable when it returns nil. val is not retained.
//
// Setting LastVoteCand writes the vote: the term given to SetUint64 before and
// the candidate become durable in one transaction. Raft makes two writes of
// them, and a crash between the two leaves a new term beside the old candidate,
// who is then granted a vote without the check of his log (L4 in cluster/DESIGN.md).
func (s *Store) Set(key, val []byte) error {
	if string(key) == keyVoteCand {
		return s.setVote(val)
	}
	return s.setValue(key, val)
}

// Get returns the value of key, which then belongs to the caller, or [ErrKeyNotFound].
func (s *Store) Get(key []byte) ([]byte, error) {
	if string(key) == keyVoteCand {
		v, err := s.lastVote()
		return v.candidate, err
	}
	return s.value(key)
}

// SetUint64 stores val under key, durable when it returns nil, except for
// LastVoteTerm, which waits in memory for its candidate. That is safe because a
// vote counts only after both calls returned.
func (s *Store) SetUint64(key []byte, val uint64) error {
	if string(key) == keyVoteTerm {
		return s.announceVote(val)
	}
	return s.setValue(key, binary.BigEndian.AppendUint64(nil, val))
}

// GetUint64 returns the number stored under key or [ErrKeyNotFound].
func (s *Store) GetUint64(key []byte) (uint64, error) {
	if string(key) == keyVoteTerm {
		v, err := s.lastVote()
		return v.term, err
	}
	b, err := s.value(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("reading %q from the stable store: %d bytes are no number", key, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

func (s *Store) announceVote(term uint64) error {
	if err := s.acquire(); err != nil {
		return err
	}
	defer s.release()
	s.votedTerm = &term
	return nil
}

func (s *Store) setVote(candidate []byte) error {
	if err := s.acquire(); err != nil {
		return err
	}
	defer s.release()
	if s.votedTerm == nil {
		return errors.New("storing the last vote: no term was given before the candidate")
	}
	v := vote{term: *s.votedTerm, candidate: candidate}
	s.votedTerm = nil
	return s.writeHeld("storing the last vote", func() error {
		return s.inner.Set([]byte(keyVote), sealValue([]byte(keyVote), v.encode()))
	})
}

// lastVote returns the durable vote. A term that still waits for its candidate
// is no vote.
func (s *Store) lastVote() (vote, error) {
	b, err := s.value([]byte(keyVote))
	if err != nil {
		return vote{}, err
	}
	v, err := decodeVote(b)
	if err != nil {
		return vote{}, s.fail(err)
	}
	return v, nil
}

func (s *Store) setValue(key, val []byte) error {
	sealed := sealValue(key, val)
	return s.write(fmt.Sprintf("storing %q in the stable store", key), func() error {
		return s.inner.Set(key, sealed)
	})
}

// value reads and verifies. Rot fails the Store at once: no peer knows our vote.
func (s *Store) value(key []byte) ([]byte, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	var stored []byte
	err := guarded(func() (err error) {
		stored, err = s.inner.Get(key)
		return err
	})
	if errors.Is(err, ErrKeyNotFound) || (err == nil && len(stored) == 0) {
		return nil, ErrKeyNotFound // Raft compares the text, so never wrapped
	}
	if err != nil {
		return nil, s.readFailure(fmt.Sprintf("reading %q from the stable store", key), err)
	}
	val, err := openValue(key, stored)
	if err != nil {
		return nil, s.fail(err)
	}
	return slices.Clone(val), nil
}

// checkFormat refuses a store of a later release, marks a new one, and refuses
// one that holds a log or a term without a mark: it is not ours, or it lost
// what it knew.
func (s *Store) checkFormat() error {
	format, err := s.GetUint64([]byte(keyFormat))
	if err == nil {
		if format != storeFormat {
			return fmt.Errorf("format %d, want %d: %w", format, storeFormat, ErrNewerFormat)
		}
		return nil
	}
	if !errors.Is(err, ErrKeyNotFound) {
		return err
	}
	_, last, err := s.bounds()
	if err != nil {
		return err
	}
	if _, err := s.value([]byte(keyCurrentTerm)); last != 0 || !errors.Is(err, ErrKeyNotFound) {
		return fmt.Errorf("the store has content but no format number: %w", ErrRotten)
	}
	return s.SetUint64([]byte(keyFormat), storeFormat)
}
