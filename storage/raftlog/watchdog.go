package raftlog

import (
	"sync"
	"sync/atomic"
	"time"
)

// watchdog times one write at a time. It uses timers, not a goroutine: nothing
// runs while nothing is stalled, and nothing is left when the last write ended.
//
// It exists because hashicorp/raft sends heartbeats from goroutines that do not
// touch the disk: a leader whose disk hangs keeps its office for ever (L5 in cluster/DESIGN.md).
type watchdog struct {
	warn, limit time.Duration
	onStall     func(stalled bool)
	onLimit     func(op string, outstanding time.Duration)

	stalled atomic.Bool
	order   sync.Mutex // held while onStall runs, so that true and false arrive in order
}

// watch starts timing op and returns the function that ends it.
func (w *watchdog) watch(op string) (done func()) {
	finished := false // guarded by w.order
	warn := time.AfterFunc(w.warn, func() {
		w.order.Lock()
		defer w.order.Unlock()
		if !finished {
			w.tell(true)
		}
	})
	limit := time.AfterFunc(w.limit, func() {
		w.order.Lock()
		late := !finished
		w.order.Unlock()
		if late {
			w.onLimit(op, w.limit)
		}
	})
	return func() {
		warn.Stop()
		limit.Stop()
		w.order.Lock()
		defer w.order.Unlock()
		finished = true
		if w.stalled.Load() {
			w.tell(false)
		}
	}
}

func (w *watchdog) tell(stalled bool) {
	w.stalled.Store(stalled)
	if w.onStall != nil {
		w.onStall(stalled)
	}
}
