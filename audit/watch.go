package audit

import (
	"sync"
	"time"
)

// watch answers for the writing goroutine while that hangs in the operating system,
// where nothing can interrupt it.
type watch struct {
	log   *Log
	mu    sync.Mutex // guards what follows
	timer *time.Timer
	round uint64     // of the group being written; a late timer of another round is void
	group []*pending // nil between groups
	busy  bool
	fired bool
}

// begin starts the clock for a group. The watch may use the slice until end.
func (w *watch) begin(group []*pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.round++
	round := w.round
	w.group, w.busy, w.fired = group, true, false
	w.timer = time.AfterFunc(w.log.deadline, func() { w.fire(round) })
}

// end stops the clock and tells whether it had run out, in which case the group was
// answered.
func (w *watch) end() (fired bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.busy, w.group = false, nil
	w.log.account.hung.Store(false)
	return w.fired
}

func (w *watch) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fired
}

// fire fails the group and everything that waits behind it. The writing goroutine
// may still hold the bodies, so nothing of them is used again.
func (w *watch) fire(round uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if round != w.round || !w.busy {
		return
	}
	l := w.log
	w.fired = true
	l.mu.Lock()
	l.account.hung.Store(true)
	queue := l.queue
	l.queue = nil
	l.mu.Unlock()
	l.account.late(ErrHung)
	verdict := result{err: l.excuse(ErrHung)}
	for _, p := range w.group {
		if p.state.CompareAndSwap(taken, finished) {
			p.done <- verdict
		}
		<-l.slots
	}
	for _, p := range queue {
		if p.state.CompareAndSwap(waiting, finished) {
			p.done <- verdict
		}
		<-l.slots
	}
}
