package raftlog

import (
	"fmt"
	"runtime/debug"
)

// write runs f as the only writer. Whatever error f returns
// fails the Store: an fsync that failed may have dropped the dirty pages, so
// trying again would report a success that is none (L8 in cluster/DESIGN.md).
func (s *Store) write(op string, f func() error) error {
	if err := s.acquire(); err != nil {
		return err
	}
	defer s.release()
	return s.writeHeld(op, f)
}

// writeHeld is write for a caller that holds the turn.
func (s *Store) writeHeld(op string, f func() error) error {
	if err := guarded(f); err != nil {
		return s.fail(fmt.Errorf("%s: %w", op, err))
	}
	// A read may have failed the Store meanwhile: then this write may be durable,
	// but it is not acknowledged, for the failure has already been announced.
	return s.failure()
}

// acquire takes the turn unless the Store failed or was closed.
func (s *Store) acquire() error {
	if err := s.usable(); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
	case <-s.failed:
		return s.failure()
	}
	if err := s.usable(); err != nil {
		s.release()
		return err
	}
	return nil
}

func (s *Store) release() { <-s.turn }

// usable returns why the Store takes no call, or nil.
func (s *Store) usable() error {
	if err := s.failure(); err != nil {
		return err
	}
	if s.closed.Load() {
		return ErrClosed
	}
	return nil
}

// failure returns the error the Store failed with, or nil.
func (s *Store) failure() error {
	select {
	case <-s.failed:
		return s.cause
	default:
		return nil
	}
}

// fail makes err the reason for which the Store takes no further call, unless
// there is one already, and returns the reason.
func (s *Store) fail(err error) error {
	s.failOnce.Do(func() {
		s.cause = fmt.Errorf("%w: %w", ErrFailed, err)
		close(s.failed)
		s.logger.Error("raft log failed; this node must stop", "error", err)
		if s.onFail != nil {
			s.onFail(s.cause)
		}
	})
	<-s.failed
	return s.cause
}

// readFailure classifies an error of the inner store that is no answer.
func (s *Store) readFailure(op string, err error) error {
	if s.closed.Load() {
		return ErrClosed // the inner store was closed under the reader
	}
	return s.fail(fmt.Errorf("%s: %w", op, err))
}

// guarded turns a panic of the inner store into an error: bbolt panics when it
// meets a page that contradicts itself, and that is rot, not a mistake of ours. A
// page that the disk cannot deliver, or that was cut off, is a fault of memory.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("inner store panicked: %v: %w", p, ErrRotten)
		}
	}()
	return f()
}
