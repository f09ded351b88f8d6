package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// office is one term of this node's leadership, from the moment when it has
// applied an entry of its own.
//
// Invariant: the library led in term when it proposed the entry at opened, and
// the machine has applied that entry. So everything that earlier leaders
// acknowledged is applied here, and every later committed entry is one that
// reaches the machine (the library keeps only its no-ops to itself, and that of
// this term came before).
type office struct {
	term   uint64
	opened uint64
	clock  *logClock

	mu           sync.Mutex
	refusedSince time.Duration // monotonic; 0: the last entry was not refused
	fenced       bool
	tickAfter    time.Duration // monotonic; no entry for the sake of time before
}

func (o *office) mayTick(now time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return now >= o.tickAfter
}

func (o *office) tickFailed(now time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tickAfter = now + maxTimeLag
}

// governs runs the terms of office one after the other. notify tells them; the
// library's main loop waits for the send, so nothing here may block.
func (n *Node) govern(notify <-chan bool) {
	previous := make(chan struct{})
	close(previous)
	end := context.CancelFunc(func() {})
	for {
		select {
		case leads := <-notify:
			end()
			if !leads {
				continue
			}
			ctx, cancel := context.WithCancel(n.ctx)
			end = cancel
			before, done := previous, make(chan struct{})
			previous = done
			begun := n.spawn(func() {
				defer close(done)
				<-before // returns soon: its context has ended
				n.hold(ctx)
			})
			if !begun {
				cancel()
				return
			}
		case <-n.stop:
			end()
			return
		}
	}
}

// hold is one term of office from opening to end.
func (n *Node) hold(ctx context.Context) {
	o, err := n.open(ctx)
	if err != nil {
		n.cfg.Logger.Info("leadership ended before it was usable", "error", err)
		return
	}
	n.leadership.setOffice(o, true)
	n.cfg.Logger.Info("leading", "term", o.term, "index", o.opened)
	defer n.cfg.Logger.Info("leading no more", "term", o.term)
	defer n.leadership.setOffice(o, false)
	n.serveDuties(ctx, o)
}

// open commits an entry of this term that only moves the applied index, and
// waits until the machine has applied it.
func (n *Node) open(ctx context.Context) (*office, error) {
	refused := n.cfg.Clock.Monotonic()
	for {
		o, err := n.tryOpen(ctx)
		if err == nil {
			return o, nil
		}
		if ctx.Err() != nil || n.raft.State() != raft.Leader {
			return nil, err
		}
		// A transfer that never ended leaves its flag behind, and no later
		// term clears it (hashicorp/raft issue 696): only a restart does.
		if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			refused = n.cfg.Clock.Monotonic()
		} else if n.cfg.Clock.Monotonic()-refused > transferStuck {
			n.halt(fmt.Errorf("taking office: %w for %v", err, transferStuck))
			return nil, err
		}
		wait(ctx, retryPause)
	}
}

func (n *Node) tryOpen(ctx context.Context) (*office, error) {
	type outcome struct {
		answer any
		index  uint64
		err    error
	}
	got := make(chan outcome, 1)
	n.spawn(func() {
		f := n.raft.Apply(nil, enqueueBound)
		if err := f.Error(); err != nil {
			got <- outcome{err: err}
			return
		}
		got <- outcome{answer: f.Response(), index: f.Index()}
	})
	select {
	case x := <-got:
		a, ok := x.answer.(applied)
		if x.err != nil || !ok {
			return nil, errors.Join(errors.New("opening entry failed"), x.err)
		}
		return &office{term: a.term, opened: x.index, clock: newLogClock(n.cfg.Clock, n.cfg.Machine.Time())}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("opening entry: %w", context.Cause(ctx))
	}
}

// refused watches for entries that are refused because a leadership transfer
// does not end. After transferStuck the node fences itself: it stops speaking as
// the leader of this term, so that the others elect another (L6).
func (o *office) refused(n *Node, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		o.refusedSince = 0
		return
	}
	now := n.cfg.Clock.Monotonic()
	if o.refusedSince == 0 {
		o.refusedSince = max(now, 1)
	}
	if now-o.refusedSince > transferStuck && !o.fenced {
		o.fenced = true
		n.fence(o.term)
		n.cfg.Logger.Warn("a leadership transfer does not end; giving up leadership", "term", o.term)
	}
}

// wait sleeps for d or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
