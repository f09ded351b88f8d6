package cluster

import (
	"context"
	"slices"
	"time"
)

// Rumours is what a node uses of gossip to tell a removed node that it was
// removed. Nobody else can: members refuse its connections, and their own to it
// would be refused by their own rule. Gossip implements it. The methods may be
// called at any time, by any goroutine; only Disown may block.
type Rumours interface {
	// Heard lists the ids of the nodes that are up, members or not.
	Heard() []string
	// Disown spreads that this node leads and that ids are no members; it
	// replaces what was spread before.
	Disown(ctx context.Context, ids []string) error
	// Disowned tells whether some node spreads that about this one.
	Disowned() bool
}

const (
	// disownedFor is how long a node without a leader hears that it is no member
	// before it believes it. A leader that is right has no other way to it, and
	// one that knows it as a member reaches it long before.
	disownedFor = 5 * time.Second
	// disownedAgain is how often a node that goes on says so.
	disownedAgain = time.Minute
	// takeBackWait is how long the end of an office may be delayed by taking back
	// what it spread.
	takeBackWait = 50 * time.Millisecond
	// disownAtMost bounds what is spread: gossip has 512 bytes for all.
	disownAtMost = 4
)

// strangers are those who are up but are no members: neither of the committed
// membership nor of a change under way.
func (n *Node) strangers() []string {
	var ids []string
	for _, id := range n.cfg.Rumours.Heard() {
		if _, member := n.member(id); !member && !n.roster.has(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids[:min(len(ids), disownAtMost)]
}

// disown spreads who is no member for as long as ctx, an office's, lasts. Only a
// leader in office does: it knows the newest membership, where any other node
// might not have heard of a new member yet.
func (n *Node) disown(ctx context.Context) {
	var spread []string
	tell := func(ctx context.Context, ids []string) {
		if slices.Equal(ids, spread) {
			return
		}
		if err := n.cfg.Rumours.Disown(ctx, ids); err != nil {
			n.cfg.Logger.Debug("telling nodes that they were removed", "nodes", ids, "error", err)
			return
		}
		spread = ids
		if len(ids) > 0 {
			n.cfg.Logger.Warn("nodes that are no members try to take part", "nodes", ids)
		}
	}
	n.everyInterval(ctx, func(ctx context.Context) { tell(ctx, n.strangers()) })
	// What is spread is replaced at once; only its way to the others takes
	// longer, and the next office does not wait for that.
	soon, cancel := context.WithTimeout(n.ctx, takeBackWait)
	defer cancel()
	tell(soon, nil)
}

// heedRumours finds out that this node was removed. One that comes back from a
// restart halts: it is sealed, serves nobody, and its exit says why. One that was
// running only says so, for rumours must not be able to end an unsealed node.
func (n *Node) heedRumours() {
	var led bool // a leader was known since the start
	var heard, said time.Duration
	for n.ctx.Err() == nil {
		wait(n.ctx, n.cfg.DutyInterval)
		_, leader := n.raft.LeaderWithID()
		if leader != "" || !n.cfg.Rumours.Disowned() {
			led, heard = led || leader != "", 0
			continue
		}
		now := max(n.cfg.Clock.Monotonic(), 1)
		if heard == 0 {
			heard = now
		}
		switch {
		case now-heard < disownedFor:
		case !led:
			n.halt(ErrRemoved)
		case said == 0 || now-said >= disownedAgain:
			said = now
			n.cfg.Logger.Error("this node takes no part in the cluster any more; empty its data directory and join again", "error", ErrRemoved)
		}
	}
}
