package testcluster

import (
	"sync/atomic"
	"time"
)

// Clock is one node's clock: the bubble's monotonic time, and a wall clock that
// a test may set wrong. It implements cluster.Clock and core.Clock.
type Clock struct {
	start time.Time
	skew  atomic.Int64
}

func newClock() *Clock { return &Clock{start: time.Now()} }

// Wall returns the time on the node's wall.
func (c *Clock) Wall() time.Time { return time.Now().Add(time.Duration(c.skew.Load())) }

// Monotonic returns the time since the simulation began; skew does not move it.
func (c *Clock) Monotonic() time.Duration { return time.Since(c.start) }

// Skew sets by how much the wall clock is ahead of the truth, or behind it.
func (c *Clock) Skew(d time.Duration) { c.skew.Store(int64(d)) }
