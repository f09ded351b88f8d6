package raftlog

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Crash keeps what was acknowledged and drops a write that hangs.
func TestMemoryCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := NewMemory()
		s := mustNew(t, Options{Inner: inner})
		must(t, s.StoreLogs(batch(1, 1, 3)))
		must(t, s.SetUint64([]byte(keyCurrentTerm), 1))
		release := make(chan struct{})
		inner.SetStall(func() { <-release })
		late := make(chan error, 1)
		go func() { late <- s.StoreLogs(batch(1, 4, 5)) }()
		synctest.Wait()
		after := inner.Crash()
		close(release)
		must(t, <-late)
		s2 := mustNew(t, Options{Inner: after})
		wantSpan(t, s2, 1, 3)
		wantEntry(t, s2, entry(3, 1))
		must(t, s2.StoreLogs(batch(2, 4, 4)))
		wantSpan(t, s, 1, 5)
		must(t, errors.Join(s.Close(), s2.Close()))
	})
}

// Close does not wait for ever behind a write that hangs; once the disk has
// answered it closes.
func TestCloseBehindAHungWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := NewMemory()
		s := mustNew(t, Options{Inner: inner})
		inner.SetStall(func() { <-time.After(10 * time.Minute) })
		hung := make(chan error, 1)
		go func() { hung <- s.StoreLogs(batch(1, 1, 3)) }()
		synctest.Wait()
		began := time.Now()
		if err := s.Close(); err == nil || time.Since(began) != closePatience {
			t.Errorf("Close behind a hung write: %v after %v", err, time.Since(began))
		}
		must(t, <-hung)
		must(t, s.Close())
	})
}

// A Store without an inner one is refused.
func TestInnerIsRequired(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("accepted no inner store")
	}
}
