package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/internal/testcluster"
)

// newMember takes a new node in, waits for a while in which it may become a voter, and
// removes it again. Whatever of it fails for want of a leader is tried again.
func (n *nemesis) newMember(rng *rand.Rand, hold func()) {
	r := n.sim.Newcomer()
	if err := r.Start(); err != nil {
		n.fail(err)
		return
	}
	peer := cluster.Peer{ID: r.ID, Address: r.ID}
	added := n.insist(func(ctx context.Context, leader *cluster.Node) error { return leader.AddNonvoter(ctx, peer) })
	if added {
		hold()
		if rng.IntN(2) == 0 { // it dies, and comes back in time or not
			how := []testcluster.Death{testcluster.Killed, testcluster.PowerCut}[rng.IntN(2)]
			r.Kill(how)
			hold()
			if err := r.Start(); err != nil {
				n.fail(fmt.Errorf("bringing back a new member: %w", err))
			}
		}
		hold()
	}
	for range 30 { // the leader makes it a voter by itself, at the pace of its duties
		if n.votes(r.ID) {
			n.prove(1)
			hold()
			break
		}
		<-time.After(n.options.slow(100 * time.Millisecond))
	}
	// It must go, or what is left could lack a quorum when it is dead.
	gone := n.insist(func(ctx context.Context, leader *cluster.Node) error {
		err := leader.Remove(ctx, r.ID)
		if errors.Is(err, cluster.ErrUnknownMember) {
			return nil
		}
		return err
	})
	if !gone {
		n.mu.Lock()
		n.lingering = append(n.lingering, r.ID)
		n.mu.Unlock()
		return // it goes on, and counts
	}
	r.Kill(testcluster.Killed)
}

// demote takes a founding member's vote away; the leader gives it back by itself.
func (n *nemesis) demote(rng *rand.Rand, hold func()) {
	id := n.sim.Replicas[rng.IntN(len(n.sim.Replicas))].ID
	ctx, cancel := context.WithTimeout(context.Background(), n.options.slow(time.Second))
	defer cancel()
	if l := n.leaderNode(); l != nil && l.Demote(ctx, id) == nil {
		n.prove(1)
	}
	hold()
}

// leaderNode is the consensus node of the leader, or nil.
func (n *nemesis) leaderNode() *cluster.Node {
	if l := n.sim.Leader(); l != nil {
		if p := l.Process(); p != nil {
			return p.Node
		}
	}
	return nil
}

// votes tells whether the leader counts the votes of id.
func (n *nemesis) votes(id string) bool {
	l := n.leaderNode()
	if l == nil {
		return false
	}
	for _, m := range l.Members() {
		if m.ID == id {
			return m.Voter
		}
	}
	return false
}

// insist has leaders do something until one did it.
func (n *nemesis) insist(do func(context.Context, *cluster.Node) error) bool {
	for range 20 {
		ctx, cancel := context.WithTimeout(context.Background(), n.options.slow(time.Second))
		l := n.leaderNode()
		ok := l != nil && do(ctx, l) == nil
		cancel()
		if ok {
			return true
		}
		<-time.After(n.options.slow(100 * time.Millisecond))
	}
	return false
}

// rotate makes a new data key. It may fail like any other write.
func (n *nemesis) rotate(rng *rand.Rand, _ func()) {
	p := n.sim.Replicas[rng.IntN(len(n.sim.Replicas))].Process()
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.options.slow(700*time.Millisecond))
	defer cancel()
	within, leave, ok := p.Enter(ctx)
	if !ok {
		return
	}
	_, err := p.Pipeline.Serve(within, n.sim.Root(), core.Request{Verb: engine.VerbWrite, Path: "sys/rotate", Input: engine.Input{Body: map[string]json.RawMessage{}}})
	if leave() && err == nil {
		n.prove(1)
	}
}

var memberFaults = []fault{
	{"new member", (*nemesis).newMember},
	{"member without a vote", (*nemesis).demote},
	{"keys rotated", (*nemesis).rotate},
}
