package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
)

// retryPause is how long a refused or unanswered batch waits before it is sent
// again, unless the leader changes first.
const retryPause = 20 * time.Millisecond

// Propose has the cluster apply b and returns the machine's answer. It fills
// Session, Sequence and Answered itself and does not change or keep *b.
//
// There are three outcomes. Done: a Result, decided by an entry that a quorum
// holds on disk; on a follower its own machine may be behind Result.Index. Not
// done: an error that is fsm.ErrNotDone (ErrNoLeader, ErrOverloaded, …).
// Unknown: an error that is fsm.ErrUnknown. Retries happen inside, under one
// sequence, until ctx ends.
func (n *Node) Propose(ctx context.Context, b *fsm.Batch) (fsm.Result, error) {
	size := b.EstimatedSize()
	if size > n.cfg.MaxBatch {
		return fsm.Result{}, ErrTooLarge
	}
	if err := n.load.admit(size); err != nil {
		return fsm.Result{}, err
	}
	defer n.load.release(size)
	for {
		s, err := n.sessions.get(ctx)
		if err != nil {
			return fsm.Result{}, err
		}
		d, err := n.proposeIn(ctx, s, b)
		if err != nil {
			return fsm.Result{}, err
		}
		switch d.result.Code {
		case fsm.SessionUnknown:
			n.sessions.lost(s)
			// The answering entry did nothing. An earlier copy, sent while the
			// session still stood, may have.
			if d.unresolved {
				return fsm.Result{}, fmt.Errorf("proposing batch: its session ended while an earlier attempt was unanswered: %w", fsm.ErrUnknown)
			}
		case fsm.Forgotten:
			return fsm.Result{}, fmt.Errorf("proposing batch: its answer is forgotten: %w", fsm.ErrUnknown)
		default:
			return d.result, nil
		}
	}
}

// proposeIn sends a copy of b under one sequence of s.
func (n *Node) proposeIn(ctx context.Context, s *session, b *fsm.Batch) (delivery, error) {
	sequence, answered, ok := s.begin()
	if !ok {
		return delivery{}, n.load.overloaded()
	}
	defer s.end(sequence)
	c := *b
	c.Session, c.Sequence, c.Answered = s.id, sequence, answered
	raw := fsm.EncodeBatch(&c)
	if len(raw) > n.cfg.MaxBatch {
		return delivery{}, ErrTooLarge
	}
	return n.deliver(ctx, raw)
}

// delivery is what became of an encoded batch. unresolved tells that before the
// attempt that was answered, another one was made whose fate nobody saw.
type delivery struct {
	result     fsm.Result
	unresolved bool
}

// deliver sends raw, always the same bytes, until it is answered or ctx ends.
func (n *Node) deliver(ctx context.Context, raw RawBatch) (delivery, error) {
	var d delivery
	led := false
	for {
		l, err := n.leadership.wait(ctx, n.halted)
		if err != nil {
			return d, undelivered(err, led, d.unresolved)
		}
		led = true
		to := n.forwards
		if l.office != nil {
			to = n.orders
		}
		i := newItem(raw)
		if !to.put(i) {
			if !d.unresolved {
				return d, n.load.overloaded()
			}
		} else {
			reply := n.await(ctx, i)
			if reply.Code == ReplyDone {
				d.result = reply.Result
				return d, nil
			}
			if err := d.note(reply); err != nil {
				return d, err
			}
		}
		n.leadership.pause(ctx, l, retryPause)
	}
}

// note takes an attempt that brought no result; an error ends the delivery.
func (d *delivery) note(r Reply) error {
	switch r.Code {
	case ReplyUnknown:
		d.unresolved = true
	case ReplyOverloaded:
		if !d.unresolved {
			return &OverloadedError{RetryAfter: overloadHint}
		}
	case ReplyMalformed:
		if !d.unresolved {
			return fmt.Errorf("proposing batch: the leader cannot read it: %w", fsm.ErrNotDone)
		}
		return fmt.Errorf("proposing batch: the leader cannot read it: %w", fsm.ErrUnknown)
	}
	return nil
}

// await waits for the answer of an item that is queued.
func (n *Node) await(ctx context.Context, i *item) Reply {
	select {
	case r := <-i.answer:
		return r
	case <-ctx.Done():
	case <-n.halted:
	}
	if i.withdraw() {
		return Reply{Code: ReplyNotLeader}
	}
	select {
	case r := <-i.answer: // it came at the same moment
		return r
	default:
		return Reply{Code: ReplyUnknown}
	}
}

// undelivered is the outcome of a delivery that err ended.
func undelivered(err error, led, unresolved bool) error {
	switch {
	case unresolved:
		return fmt.Errorf("proposing batch: %w: %w", fsm.ErrUnknown, err)
	case led:
		return fmt.Errorf("proposing batch: %w: %w", fsm.ErrNotDone, err)
	}
	return fmt.Errorf("proposing batch: %w: %w", ErrNoLeader, err)
}

// overloadHint is a queue's usual time to drain by half at ten
// thousand batches per second and more.
const overloadHint = 200 * time.Millisecond

// load bounds what this node's callers have under way.
type load struct {
	maxBatches, maxBytes int

	mu             sync.Mutex
	batches, bytes int
}

func (l *load) admit(size int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.batches >= l.maxBatches || l.bytes+size > l.maxBytes {
		return l.overloaded()
	}
	l.batches++
	l.bytes += size
	return nil
}

func (l *load) release(size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches--
	l.bytes -= size
}

func (l *load) overloaded() error { return &OverloadedError{RetryAfter: overloadHint} }
