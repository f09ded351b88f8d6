package real

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

var memberFaults = []fault{
	{"member replaced", alone, 3, (*blow).replaceMember},
	{"removed member returns", alone, 3, (*blow).returnRemoved},
	{"member away for long", process, 3, (*blow).stayAway},
}

// memberTime bounds each change of membership, of a cluster that is well.
const memberTime = 45 * time.Second

// replaceMember takes a running member out of the cluster and a new one in, at the
// same place and on a disk of its own.
func (b *blow) replaceMember() error {
	node := b.leaderOrAny()
	b.nodes = []int{node}
	if err := b.remove(node); err != nil {
		return err
	}
	b.hold() // what is no member any more goes on for a while
	return b.join(node)
}

// returnRemoved has a member that was down when it was removed come back: it must
// notice, and end.
func (b *blow) returnRemoved() error {
	node := b.anyNode()
	b.nodes = []int{node}
	if err := b.end(node); err != nil {
		return err
	}
	if err := b.remove(node); err != nil {
		return err
	}
	b.hold()
	if err := b.awaitRefusal(node, "was removed from the cluster"); err != nil {
		return err
	}
	return b.join(node)
}

// stayAway keeps a node down for longer than the others remember what it lacks.
func (b *blow) stayAway() error {
	node := b.anyNode()
	b.nodes = []int{node}
	if err := b.end(node); err != nil {
		return err
	}
	from, ctx := b.highest(b.ctx), context.WithoutCancel(b.ctx)
	for range 40 {
		if pause(ctx, 500*time.Millisecond); b.ctx.Err() != nil {
			break // nobody writes any more
		}
		if b.highest(ctx) > from+entriesKept+snapshotEvery {
			b.prove("times that the others went on without it", 1)
			break
		}
	}
	return b.revive(node)
}

// remove takes a node out of the cluster and proves it.
func (b *blow) remove(node int) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), memberTime)
	defer cancel()
	id, err := b.run.idOf(node)
	if err != nil {
		return err
	}
	if err := b.run.cluster.Remove(ctx, b.run.node(node), id); err != nil {
		return err
	}
	b.prove("members removed", 1)
	return nil
}

// join has a new member come up in the place of one that was removed.
func (b *blow) join(node int) error {
	if err := b.run.node(node).Kill(); err != nil {
		return err
	}
	old, err := b.run.disks[node].swap("")
	if err != nil {
		return fmt.Errorf("replacing the disk of node %d: %w", node, err)
	}
	b.run.retire(old)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), memberTime)
	defer cancel()
	if err := b.run.cluster.Join(ctx, b.run.node(node)); err != nil {
		return err
	}
	if err := b.run.awaitVoters(ctx); err != nil {
		return err
	}
	b.prove("members joined", 1)
	return nil
}

// replace is what an operator does about a node whose disk is lost.
func (b *blow) replace(node int) error {
	if err := b.run.node(node).Kill(); err != nil {
		return err
	}
	if err := b.remove(node); err != nil {
		return err
	}
	return b.join(node)
}

// awaitVoters waits until every node is a live, unsealed voter.
func (r *run) awaitVoters(ctx context.Context) error {
	last := errors.New("there is no leader")
	for ctx.Err() == nil {
		if leader := r.leader(ctx); leader >= 0 {
			if last = r.countVoters(ctx, leader); last == nil {
				return nil
			}
		}
		pause(ctx, 50*time.Millisecond)
	}
	return fmt.Errorf("waiting for %d voters: %w", r.options.Nodes, last)
}

func (r *run) countVoters(ctx context.Context, leader int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	members, _, err := r.askers[leader].Operator.Members(ctx)
	if err != nil {
		return err
	}
	ready := 0
	for _, m := range members {
		if m.Voter && m.Alive && !m.Sealed {
			ready++
		}
	}
	if ready != r.options.Nodes || len(members) != ready {
		return fmt.Errorf("of %d members %d are live, unsealed voters", len(members), ready)
	}
	return nil
}

// refusalTime is how long a node may take to see that it cannot serve: one that was
// removed hears of it by gossip.
const refusalTime = 40 * time.Second

// awaitRefusal starts a node, which must end by itself and say why, with a hint.
func (b *blow) awaitRefusal(node int, why string) error {
	ended, said, err := b.startDoubtful(node, refusalTime, false)
	if err != nil {
		return err
	}
	if !ended || !strings.Contains(said, why) {
		b.run.report("node %d should have ended because it %s; ended: %v, and said: %s", node, why, ended, said)
		return nil
	}
	b.prove("nodes that refused to serve", 1)
	return nil
}

// startDoubtful starts a node that may refuse to serve, and waits until it has
// ended or, if that is wanted, is unsealed. A node that does neither, or ends without
// saying why and what to do about it, is a finding.
func (b *blow) startDoubtful(node int, patience time.Duration, unseal bool) (ended bool, said string, err error) {
	n := b.run.node(node)
	before := size(n.LogFile)
	if err := n.Start(); err != nil {
		return false, "", err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), patience)
	defer cancel()
	unsealing := errors.New("it was left sealed")
	if unseal {
		if unsealing = n.Unseal(ctx); unsealing == nil {
			return false, "", nil
		}
	}
	select {
	case <-n.Exited():
	case <-ctx.Done():
		b.run.report("node %d neither serves nor ends after %q: %v", node, b.name, unsealing)
		return false, "", nil
	}
	if err := n.Kill(); err != nil { // forgets it
		return true, "", err
	}
	raw, err := os.ReadFile(n.LogFile)
	if err != nil {
		return true, "", err
	}
	said = string(raw[min(before, len(raw)):])
	_, message, explained := strings.Cut(said, "error: ")
	if !explained || !strings.Contains(message, "hint: ") {
		b.run.report("node %d ended after %q without saying why and what to do: …%s", node, b.name, said[max(0, len(said)-1500):])
	}
	return true, message, nil
}

// size is how long a log is, 0 while there is none.
func size(path string) int {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return int(info.Size())
}
