package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/fsm"
)

// enqueueBound is how long the library's main loop may take to accept an entry.
// Beyond it the entry was certainly not proposed.
const enqueueBound = time.Second

// order is the one goroutine that puts batches into the log: it takes all that
// wait into one entry and keeps one entry in flight. While it is, the next
// batches gather.
func (n *Node) order() {
	for {
		select {
		case <-n.orders.wake:
		case <-n.stop:
			answerAll(n.orders.take(), ReplyNotLeader)
			return
		}
		items := n.orders.take()
		if len(items) == 0 {
			continue
		}
		o := n.leadership.now().office
		if o == nil {
			answerAll(items, ReplyNotLeader)
			continue
		}
		n.orderEntry(o, items)
	}
}

func (n *Node) orderEntry(o *office, items []*item) {
	e := fsm.Entry{Time: o.clock.stamp(), Batches: make([][]byte, len(items))}
	for k, i := range items {
		e.Batches[k] = i.raw
	}
	a, code := n.applyEntry(o, fsm.EncodeEntry(&e))
	if code == ReplyDone && len(a.results) != len(items) {
		n.halt(fmt.Errorf("machine answered %d of %d batches of an entry", len(a.results), len(items)))
		code = ReplyUnknown
	}
	if code != ReplyDone {
		answerAll(items, code)
		return
	}
	for k, i := range items {
		i.answer <- Reply{Code: ReplyDone, Result: a.results[k]}
	}
}

// applyEntry proposes data and waits until the machine has applied it or its
// fate cannot be told.
func (n *Node) applyEntry(o *office, data []byte) (applied, ReplyCode) {
	type outcome struct {
		answer any
		err    error
	}
	got := make(chan outcome, 1)
	begun := n.spawn(func() {
		f := n.raft.Apply(data, enqueueBound)
		err := f.Error()
		got <- outcome{f.Response(), err}
	})
	if !begun {
		return applied{}, ReplyNotLeader
	}
	select {
	case x := <-got:
		o.refused(n, x.err)
		if x.err != nil {
			return applied{}, codeOf(x.err)
		}
		a, ok := x.answer.(applied)
		if !ok { // the applier's error: the replica has halted
			return applied{}, ReplyUnknown
		}
		return a, ReplyDone
	case <-n.halted:
		return applied{}, ReplyUnknown
	}
}

// codeOf sorts the library's errors. Only those that it returns before it
// writes the entry prove that nothing was proposed; whatever is
// not known here counts as unknown.
func codeOf(err error) ReplyCode {
	switch {
	case errors.Is(err, raft.ErrNotLeader),
		errors.Is(err, raft.ErrEnqueueTimeout),
		errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ReplyNotLeader
	}
	return ReplyUnknown
}

// HandlePropose implements Handler for batches that other nodes send here.
func (h handler) HandlePropose(ctx context.Context, batches []RawBatch) ([]Reply, error) {
	n := h.n
	replies := make([]Reply, len(batches))
	if n.leadership.now().office == nil {
		for k := range replies {
			replies[k].Code = ReplyNotLeader
		}
		return replies, nil
	}
	items := make([]*item, len(batches))
	for k, raw := range batches {
		// A batch that the machine cannot read would halt every replica at once.
		if _, err := fsm.ValidateBatch(raw); err != nil || len(raw) > n.cfg.MaxBatch {
			replies[k].Code = ReplyMalformed
			continue
		}
		i := newItem(raw)
		if !n.orders.put(i) {
			replies[k].Code = ReplyOverloaded
			continue
		}
		items[k] = i
	}
	for k, i := range items {
		if i != nil {
			replies[k] = n.await(ctx, i)
		}
	}
	return replies, nil
}
