package real

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

var processFaults = []fault{
	{"leader killed", process, 3, func(b *blow) error {
		b.isLeader = true
		return b.kill(b.leaderNow())
	}},
	{"node killed", process, 3, func(b *blow) error { return b.kill(b.anyNode()) }},
	{"all killed", process, 3, func(b *blow) error { return b.kill(b.everyNode()...) }},
	{"crash loop", process, 3, (*blow).crashLoop},
	{"leader paused", process, 3, func(b *blow) error { return b.freeze(b.leaderNow()) }},
	{"node paused", process, 3, func(b *blow) error { return b.freeze(b.anyNode()) }},
	{"all paused", process, 3, func(b *blow) error { return b.freeze(b.everyNode()...) }},
	{"leadership handed over", alone, 3, (*blow).transfer},
	{"leader sealed", process, 3, func(b *blow) error { return b.seal(b.leaderNow()) }},
	{"node sealed", process, 3, func(b *blow) error { return b.seal(b.anyNode()) }},
	{"snapshots while one sleeps", process, 3, (*blow).fallBehind},
	{"rolling restart", alone, 3, (*blow).roll},
}

// end kills nodes and proves that they are gone.
func (b *blow) end(nodes ...int) error {
	var hands sync.WaitGroup
	failed := make([]error, len(nodes))
	for i, node := range nodes {
		hands.Go(func() { failed[i] = b.run.node(node).Kill() })
	}
	hands.Wait()
	gone := int64(0)
	for _, node := range nodes {
		if b.run.node(node).PID() == 0 {
			gone++
		}
	}
	b.prove("processes killed", gone)
	return errors.Join(failed...)
}

// kill ends nodes with SIGKILL and brings them back.
func (b *blow) kill(nodes ...int) error {
	b.nodes = nodes
	if err := b.end(nodes...); err != nil {
		return err
	}
	b.hold()
	return b.revive(nodes...)
}

// revive starts nodes and unseals them, as far as that is possible at the time.
func (b *blow) revive(nodes ...int) error {
	for _, node := range nodes {
		if err := b.run.node(node).Start(); err != nil {
			return err
		}
	}
	b.unseal(nodes...)
	return nil
}

// unseal opens nodes. Where the network does not let it, mending does it.
func (b *blow) unseal(nodes ...int) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 4*time.Second)
	defer cancel()
	var hands sync.WaitGroup
	for _, node := range nodes {
		hands.Go(func() {
			if err := b.run.node(node).Unseal(ctx); err != nil && ctx.Err() == nil {
				b.run.report("unsealing after %q: %v", b.name, err)
			}
		})
	}
	hands.Wait()
}

// crashLoop kills a node each time it has hardly come up.
func (b *blow) crashLoop() error {
	node := b.anyNode()
	b.nodes = []int{node}
	for range 4 {
		if err := b.end(node); err != nil {
			return err
		}
		if err := b.run.node(node).Start(); err != nil {
			return err
		}
		b.holdFor(30*time.Millisecond, 700*time.Millisecond)
	}
	b.unseal(node)
	return nil
}

// freeze stops processes for a while and lets them go on as if nothing had been.
func (b *blow) freeze(nodes ...int) error {
	b.nodes = nodes
	b.run.breakDisk() // to a process that was stopped, no disk answered
	stopped := int64(0)
	for _, node := range nodes {
		if err := b.run.node(node).Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		stopped += b.awaitStopped(b.run.node(node).PID())
	}
	b.prove("processes stopped", stopped)
	if most := 20 * time.Second; b.rng.IntN(5) == 0 && b.run.options.For > 6*most {
		b.holdFor(3*time.Second, most)
	} else {
		b.holdFor(100*time.Millisecond, 3*time.Second)
	}
	var errs []error
	for _, node := range nodes {
		errs = append(errs, b.run.node(node).Signal(syscall.SIGCONT))
	}
	return errors.Join(errs...)
}

// awaitStopped is 1 as soon as the kernel says that the process is stopped.
func (b *blow) awaitStopped(pid int) int64 {
	for range 100 {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0
		}
		// The state follows the name, which stands in parentheses.
		if _, after, ok := strings.Cut(string(raw), ") "); ok && strings.HasPrefix(after, "T") {
			return 1
		}
		pause(b.ctx, time.Millisecond)
	}
	return 0
}

// transfer has the leader hand over to the best of the others.
func (b *blow) transfer() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 5*time.Second)
	defer cancel()
	before := b.leaderNow()
	b.nodes = []int{before}
	id, err := b.run.askers[before].Operator.TransferLeadership(ctx, "")
	if err != nil {
		b.run.note("leadership was not handed over: %v", err)
	}
	for ctx.Err() == nil {
		now := b.run.leader(ctx)
		if now >= 0 && now != before {
			b.prove("leader changed", 1)
			return nil
		}
		if err != nil {
			return nil // without a proof: the run says so
		}
		pause(ctx, 20*time.Millisecond)
	}
	return fmt.Errorf("%s was said to lead, and does not", id)
}

// seal has a node forget its keys, and gives them back.
func (b *blow) seal(node int) error {
	b.nodes = []int{node}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 10*time.Second)
	defer cancel()
	if err := b.run.askers[node].Operator.Seal(ctx); err != nil {
		b.run.note("sealing a node failed: %v", err)
	}
	if s, err := b.run.statusOf(ctx, node); err == nil && s.Sealed {
		b.prove("nodes sealed", 1)
	}
	b.hold()
	b.unseal(node)
	return nil
}

// fallBehind stops a node for so long that the others, which take snapshots all the
// time, have forgotten the entries that it lacks: it must take a snapshot from them.
func (b *blow) fallBehind() error {
	node := b.anyNode()
	b.nodes = []int{node}
	n, ctx := b.run.node(node), context.WithoutCancel(b.ctx)
	before, installs := b.snapshots(node), installed(n.LogFile)
	from := b.highest(ctx)
	b.run.breakDisk() // to a process that was stopped, no disk answered
	if err := n.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for range 24 {
		if pause(ctx, 500*time.Millisecond); b.ctx.Err() != nil {
			break // nobody writes any more
		}
		if b.highest(ctx) > from+entriesKept && b.snapshots(node) != before {
			b.prove("others took snapshots", 1)
			break
		}
	}
	if err := n.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	for range 30 {
		if more := installed(n.LogFile) - installs; more > 0 {
			b.prove("snapshots installed", int64(more))
			break
		}
		pause(ctx, 100*time.Millisecond)
	}
	return nil
}

// Nodes take snapshots often, and keep few entries behind them.
const (
	snapshotEvery = 100
	entriesKept   = 4 * snapshotEvery
)

// highest is the highest index that a node says it has applied.
func (b *blow) highest(ctx context.Context) (index uint64) {
	leader := b.run.leader(ctx)
	if leader < 0 {
		return 0
	}
	s, err := b.run.statusOf(ctx, leader)
	if err != nil {
		return 0 // ask again
	}
	return s.AppliedIndex
}

// installed counts the snapshots of others that a node installed, by its log.
func installed(log string) int {
	raw, err := os.ReadFile(log)
	if err != nil {
		return 0
	}
	return strings.Count(string(raw), "Installed remote snapshot")
}

// snapshots names all snapshots of all nodes but one.
func (b *blow) snapshots(but int) string {
	var all []string
	for i := range b.run.options.Nodes {
		if i == but {
			continue
		}
		names, err := filepath.Glob(filepath.Join(b.run.files(i), "snapshots", "*"))
		if err != nil {
			b.run.report("listing snapshots: %v", err)
		}
		all = append(all, names...)
	}
	return strings.Join(all, "\n")
}

// roll restarts every node in good order, one after the other.
func (b *blow) roll() error {
	b.nodes = b.everyNode()
	for _, node := range b.nodes {
		before := b.run.node(node).PID()
		if err := b.run.node(node).Terminate(); err != nil {
			return err
		}
		if err := b.revive(node); err != nil {
			return err
		}
		if after := b.run.node(node).PID(); after != 0 && after != before {
			b.prove("processes replaced", 1)
		}
	}
	return nil
}
