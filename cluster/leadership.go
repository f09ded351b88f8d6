package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// leader is who leads, as far as this node knows. It never changes; its
// context ends when another answer takes its place.
type leader struct {
	peer   Peer    // another node; zero: none, or this one
	office *office // this node's own, when it leads and may order
	ctx    context.Context
	over   context.CancelFunc
}

func (l *leader) known() bool { return l.office != nil || l.peer.ID != "" }

// leadership is the present leader, and lets goroutines wait for one.
type leadership struct {
	base context.Context

	mu      sync.Mutex
	current *leader
	office  *office
	peer    Peer
}

func newLeadership(base context.Context) *leadership {
	l := &leadership{base: base}
	l.swap()
	return l
}

func (l *leadership) now() *leader {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// swap publishes office and peer. Call it under mu, or before anybody else sees l.
func (l *leadership) swap() {
	if l.current != nil {
		l.current.over()
	}
	next := &leader{peer: l.peer, office: l.office}
	if next.office != nil {
		next.peer = Peer{}
	}
	next.ctx, next.over = context.WithCancel(l.base)
	l.current = next
}

func (l *leadership) setPeer(p Peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.peer != p {
		l.peer = p
		l.swap()
	}
}

// setOffice publishes o, or takes o back when on is false.
func (l *leadership) setOffice(o *office, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case on:
		l.office = o
	case l.office == o && o != nil:
		l.office = nil
	default:
		return
	}
	l.swap()
}

// wait returns the leader, as soon as there is one.
func (l *leadership) wait(ctx context.Context, stop <-chan struct{}) (*leader, error) {
	for {
		now := l.now()
		select {
		case <-stop:
			return nil, ErrClosed
		default:
		}
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if now.known() {
			return now, nil
		}
		select {
		case <-now.ctx.Done():
		case <-ctx.Done():
		case <-stop:
		}
	}
}

// pause waits for d, and less when ctx ends or was is leader no more.
func (l *leadership) pause(ctx context.Context, was *leader, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-was.ctx.Done():
	}
}

// followLeader publishes whom the library takes for the leader. The library
// drops an observation when one is waiting, which is enough of a hint to look.
func (n *Node) followLeader(seen <-chan raft.Observation) {
	for {
		address, id := n.raft.LeaderWithID()
		p := Peer{}
		if id != "" && string(id) != n.cfg.ID {
			p = Peer{ID: string(id), Address: string(address)}
		}
		n.leadership.setPeer(p)
		select {
		case <-seen:
		case <-n.stop:
			return
		}
	}
}

// reach is p at the address where it is now.
func (n *Node) reach(p Peer) Peer {
	if a, ok := n.cfg.Addresses(p.ID); ok {
		p.Address = a
	}
	return p
}
