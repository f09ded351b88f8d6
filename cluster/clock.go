package cluster

import (
	"crypto/rand"
	"io"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
)

var systemRand io.Reader = rand.Reader

type systemClock struct{ start time.Time }

// SystemClock is the operating system's clock; Monotonic counts from this call.
func SystemClock() Clock { return systemClock{time.Now()} }

func (c systemClock) Wall() time.Time          { return time.Now() }
func (c systemClock) Monotonic() time.Duration { return time.Since(c.start) }

// logClock stamps entries during one term of office. It starts from the later
// of the machine's time and the wall clock and then follows the monotonic
// clock, so that a wall clock that jumps moves no lease.
type logClock struct {
	clock Clock
	base  fsm.LogTime
	began time.Duration

	mu   sync.Mutex
	last fsm.LogTime
}

func newLogClock(clock Clock, machine fsm.LogTime) *logClock {
	base := max(machine, fsm.LogTime(clock.Wall().UnixNano()))
	return &logClock{clock: clock, base: base, began: clock.Monotonic(), last: machine}
}

// now is the present log time; it stamps nothing.
func (c *logClock) now() fsm.LogTime { return c.base.Add(c.clock.Monotonic() - c.began) }

// stamp is the time of the next entry: strictly above every earlier one.
func (c *logClock) stamp() fsm.LogTime {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = max(c.last+1, c.now())
	return c.last
}
