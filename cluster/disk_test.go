package cluster

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// diskClock is the bubble's time, run at a rate, with time added in one go.
type diskClock struct {
	start time.Time
	rate  time.Duration

	mu    sync.Mutex
	added time.Duration
}

func (c *diskClock) Wall() time.Time { return time.Now() }

func (c *diskClock) Monotonic() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rate*time.Since(c.start) + c.added
}

func (c *diskClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added += d
}

// halts records what a disk halted for, and when.
type halts struct {
	mu    sync.Mutex
	start time.Time
	told  []error
	after time.Duration
}

func (h *halts) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told, h.after = append(h.told, err), time.Since(h.start)
}

func (h *halts) seen() ([]error, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told, h.after
}

func newTestDisk(rate time.Duration) (*disk, *diskClock, *halts) {
	clock, h := &diskClock{start: time.Now(), rate: rate}, &halts{start: time.Now()}
	return &disk{clock: clock, slow: 2 * time.Second, dead: 5 * time.Second, halt: h.note}, clock, h
}

// attempt writes for d on a goroutine of its own, and tells whether the write
// was acknowledged.
func attempt(k *disk, d time.Duration) <-chan bool {
	done := make(chan bool, 1)
	go func() {
		acknowledged := false
		defer func() { done <- acknowledged }() // Goexit runs it, too
		k.write("storing entry 7", func() error { <-time.After(d); return nil })
		acknowledged = true
	}()
	return done
}

// L5: a slow but healthy disk is not noticed; one that hangs for longer than
// slow is stalled until it answers, and is then well again.
func TestL5SlowDiskStallsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, _, h := newTestDisk(1)
		quick := attempt(k, 1900*time.Millisecond)
		<-time.After(1800 * time.Millisecond)
		if k.stalled() {
			t.Error("a write of 1.8 s counts as stalled")
		}
		if !<-quick {
			t.Error("a write of 1.9 s was not acknowledged")
		}
		slow := attempt(k, 4900*time.Millisecond)
		<-time.After(2100 * time.Millisecond)
		if !k.stalled() {
			t.Error("not stalled 2.1 s into a write")
		}
		if !<-slow || k.stalled() {
			t.Error("a write of 4.9 s was not acknowledged, or the disk is stalled after it")
		}
		<-time.After(time.Minute)
		if told, _ := h.seen(); told != nil {
			t.Errorf("halted for %v", told)
		}
	})
}

// L5: a write that hangs for longer than dead halts the node at that moment and
// names what was written. A late return of the disk acknowledges nothing, nor
// does any write after it. No goroutine or timer is left, or the bubble fails.
func TestL5HungDiskHalts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, _, h := newTestDisk(1)
		hung := attempt(k, 10*time.Minute)
		<-time.After(4900 * time.Millisecond)
		if told, _ := h.seen(); told != nil {
			t.Errorf("halted too early for %v", told)
		}
		<-time.After(time.Minute)
		told, after := h.seen()
		if len(told) != 1 || after != 5*time.Second || !strings.Contains(told[0].Error(), "storing entry 7") {
			t.Errorf("halted for %v after %v; want once, after 5 s, naming the write", told, after)
		}
		if <-attempt(k, 0) {
			t.Error("a write after the failure was acknowledged")
		}
		if <-hung {
			t.Error("the hung write was acknowledged when the disk came back")
		}
	})
}

// The clock decides, not the timer: on a clock that runs twice as fast the node
// halts in half the time, and time that passed while the whole process was
// stopped is not held against the disk.
func TestL5WatchdogGoesByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, _, h := newTestDisk(2)
		hung := attempt(k, time.Minute)
		<-hung
		if _, after := h.seen(); after != 2500*time.Millisecond {
			t.Errorf("halted after %v of the bubble's time, want 2.5 s", after)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		k, clock, h := newTestDisk(1)
		write := attempt(k, 3*time.Second)
		<-time.After(time.Second)
		clock.add(time.Hour)
		if !<-write {
			t.Error("a write was not acknowledged because the process had been stopped")
		}
		if told, _ := h.seen(); told != nil {
			t.Errorf("halted for %v", told)
		}
	})
}

// L8: the first error is told and ends every later write without trying it.
func TestL8FirstErrorIsFinal(t *testing.T) {
	broken := errors.New("input/output error")
	k, _, h := newTestDisk(1)
	tried := 0
	for range 2 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			k.write("storing entry 7", func() error { tried++; return broken })
			t.Error("a failed write returned")
		}()
		<-done
	}
	if told, _ := h.seen(); tried != 1 || len(told) != 1 || !errors.Is(told[0], broken) {
		t.Errorf("tried %d times, told %v", tried, told)
	}
}
