package cluster

import (
	"context"
	"errors"

	"github.com/conclave-secrets/conclave/fsm"
)

// forwardGroups is how many groups of batches a follower has under way to its
// leader; the machine's sessions make their order irrelevant.
const forwardGroups = 8

// forward is the one goroutine that sends a follower's batches to the leader,
// in groups of what waits.
func (n *Node) forward() {
	slots := make(chan struct{}, forwardGroups)
	for {
		select {
		case <-n.forwards.wake:
		case <-n.stop:
			answerAll(n.forwards.take(), ReplyNotLeader)
			return
		}
		select {
		case slots <- struct{}{}:
		case <-n.stop:
			answerAll(n.forwards.take(), ReplyNotLeader)
			return
		}
		items := n.forwards.take()
		l := n.leadership.now()
		if len(items) == 0 || l.peer.ID == "" {
			answerAll(items, ReplyNotLeader)
			<-slots
			continue
		}
		begun := n.spawn(func() {
			defer func() { <-slots }()
			n.forwardGroup(l, items)
		})
		if !begun {
			answerAll(items, ReplyNotLeader)
		}
	}
}

// forwardGroup sends items to the leader l. A group that waits on a leader who
// is no more is given up at once: it is sent again to the next one.
func (n *Node) forwardGroup(l *leader, items []*item) {
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.RPCTimeout)
	defer cancel()
	defer context.AfterFunc(l.ctx, cancel)()
	batches := make([]RawBatch, len(items))
	for k, i := range items {
		batches[k] = i.raw
	}
	replies, err := n.cfg.Transport.Propose(ctx, n.reach(l.peer), batches)
	switch {
	case errors.Is(err, fsm.ErrNotDone):
		answerAll(items, ReplyNotLeader)
	case err != nil || len(replies) != len(items):
		answerAll(items, ReplyUnknown)
	default:
		for k, i := range items {
			i.answer <- replies[k]
		}
	}
}
