package raftlog

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// L5: a write that hangs is announced after StallWarn and taken back when the
// disk answers; a slow but healthy disk is not announced.
func TestStallIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := NewMemory()
		var heard []bool
		s := mustNew(t, Options{
			Inner: inner, OnStall: func(b bool) { heard = append(heard, b) },
			Fail: func(err error) { t.Errorf("failed: %v", err) },
		})
		inner.SetStall(func() { time.Sleep(1900 * time.Millisecond) })
		must(t, s.StoreLogs(batch(1, 1, 2)))
		if len(heard) != 0 {
			t.Errorf("a write of 1.9 s was announced: %v", heard)
		}
		inner.SetStall(func() { time.Sleep(4 * time.Second) })
		during := make(chan bool, 1)
		time.AfterFunc(2100*time.Millisecond, func() { during <- s.Stalled() })
		must(t, s.StoreLogs(batch(1, 3, 4)))
		if !<-during {
			t.Error("Stalled() was false 2.1 s into a stall")
		}
		if !slices.Equal(heard, []bool{true, false}) || s.Stalled() {
			t.Errorf("heard %v, stalled %v", heard, s.Stalled())
		}
		must(t, s.Close())
	})
}

// L5: a write that hangs for longer than StallFail fails the store at that
// moment. Those who wait behind it are released, and a late return of the disk
// acknowledges nothing. No goroutine is left (synctest would not end).
func TestHungDiskFailsTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := NewMemory()
		var told error
		start, failedAfter := time.Now(), time.Duration(0)
		s := mustNew(t, Options{Inner: inner, Fail: func(err error) { told, failedAfter = err, time.Since(start) }})
		inner.SetStall(func() { time.Sleep(10 * time.Minute) })
		hung, behind := make(chan error, 1), make(chan error, 1)
		go func() { hung <- s.StoreLogs(batch(1, 1, 3)) }()
		synctest.Wait()
		go func() { behind <- s.SetUint64([]byte(keyCurrentTerm), 4) }()
		if err := <-behind; !errors.Is(err, ErrFailed) || time.Since(start) != 5*time.Second {
			t.Errorf("the writer behind: %v after %v", err, time.Since(start))
		}
		synctest.Wait() // Fail may still run while others are refused
		if failedAfter != 5*time.Second || !strings.Contains(told.Error(), "storing raft log entries 1 to 3") || !strings.Contains(told.Error(), "5s") {
			t.Errorf("Fail was told %v after %v", told, failedAfter)
		}
		everyCallFails(t, s)
		if err := s.Close(); err == nil {
			t.Error("Close returned nil although a write is outstanding")
		}
		if err := <-hung; !errors.Is(err, ErrFailed) {
			t.Errorf("the hung write was acknowledged: %v", err)
		}
		must(t, s.Close())
	})
}

// Crash keeps what was acknowledged and drops a write that hangs.
func TestMemoryCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := NewMemory()
		s := mustNew(t, Options{Inner: inner, StallWarn: time.Hour, StallFail: 2 * time.Hour})
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

// Limits that are out of order are refused.
func TestStallLimits(t *testing.T) {
	for _, o := range []Options{{StallWarn: -1}, {StallWarn: 5 * time.Second}, {StallFail: time.Second}} {
		o.Inner = NewMemory()
		if _, err := New(o); err == nil {
			t.Errorf("accepted %v and %v", o.StallWarn, o.StallFail)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("accepted no inner store")
	}
}
