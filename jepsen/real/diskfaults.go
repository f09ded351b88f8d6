package real

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/jepsen/faultfs"
)

var diskFaults = []fault{
	{"leader's power cut", disks, 3, func(b *blow) error {
		b.isLeader = true
		return b.cutPower(b.leaderNow())
	}},
	{"node's power cut", disks, 3, func(b *blow) error { return b.cutPower(b.anyNode()) }},
	{"all power cut", disks, 3, func(b *blow) error { return b.cutPower(b.everyNode()...) }},
	{"failing reads", disks, 3, (*blow).failReads},
	{"failing writes", disks, 3, func(b *blow) error {
		return b.failDisk(faultfs.Rule{Ops: faultfs.Write, Errno: syscall.EIO}, "writes failed")
	}},
	{"failing syncs", disks, 3, func(b *blow) error {
		return b.failDisk(faultfs.Rule{Ops: faultfs.Sync, Errno: syscall.EIO}, "syncs failed")
	}},
	{"full disk", disks, 3, func(b *blow) error {
		return b.failDisk(faultfs.Rule{Full: true, Room: b.rng.Int64N(256 << 10)}, "writes without room")
	}},
	{"nearly full disk", disks, 3, (*blow).nearlyFull},
	{"slow syncs", disks, 3, (*blow).slowSyncs},
	{"hung syncs", disks, 3, (*blow).hangSyncs},
}

// badDisk is the name of the one rule that a disk has at a time.
const badDisk = "bad disk"

// cutPower kills nodes, has their disks lose what was not synced, and brings them back.
func (b *blow) cutPower(nodes ...int) error {
	b.nodes = nodes
	if err := b.end(nodes...); err != nil {
		return err
	}
	if err := b.loseUnsynced(nodes...); err != nil {
		return err
	}
	b.hold()
	return b.revive(nodes...)
}

// loseUnsynced is what a power cut does to the disks of nodes that were killed.
func (b *blow) loseUnsynced(nodes ...int) error {
	for _, node := range nodes {
		fs := b.run.disks[node].system()
		loss, err := fs.PowerCut(b.rng.Uint64())
		if err != nil {
			return fmt.Errorf("node %d: %w", node, err)
		}
		for _, p := range []struct {
			what  string
			count int64
		}{{"writes lost", loss.Writes}, {"writes torn", loss.Torn}, {"names lost", loss.Names}} {
			if p.count > 0 {
				b.prove(p.what, p.count)
			}
		}
	}
	return nil
}

// leaderOrAny is the leader in half of the cases: only its disk stops everybody.
func (b *blow) leaderOrAny() int {
	if b.rng.IntN(2) == 0 {
		return b.leaderNow()
	}
	return b.anyNode()
}

// impair has a rule at work on the disk of a node for a while, and for longer if it
// has bitten nothing by then.
func (b *blow) impair(node int, rule faultfs.Rule, what string, least, most time.Duration) error {
	fs := b.run.disks[node].system()
	before := fs.Counts()[badDisk]
	rule.Name = badDisk
	b.run.breakDisk()
	if err := fs.Set(rule); err != nil {
		return err
	}
	b.holdFor(least, most)
	for range 50 {
		if fs.Counts()[badDisk] > before {
			break
		}
		pause(context.WithoutCancel(b.ctx), 100*time.Millisecond)
	}
	fs.Clear(badDisk)
	if bit := fs.Counts()[badDisk] - before; bit > 0 {
		b.prove(what, bit)
	}
	return nil
}

// failDisk breaks the disk of a node, which may end by itself for it, and then
// cuts its power: what it answered after an error would be lost by that.
func (b *blow) failDisk(rule faultfs.Rule, what string) error {
	node := b.leaderOrAny()
	b.nodes = []int{node}
	if err := b.impair(node, rule, what, time.Second, 3*time.Second); err != nil {
		return err
	}
	return b.replug(node)
}

// replug ends a node whose disk was bad, if it has not ended already, and brings it
// back with a good one.
func (b *blow) replug(node int) error {
	select {
	case <-b.run.node(node).Exited():
		b.prove("processes that ended by themselves", 1)
	default:
	}
	if err := b.run.node(node).Kill(); err != nil {
		return err
	}
	if err := b.loseUnsynced(node); err != nil {
		return err
	}
	return b.revive(node)
}

// failReads starts a node from a disk that cannot be read in places: while it runs,
// what it reads is in its memory.
func (b *blow) failReads() error {
	node := b.leaderOrAny()
	b.nodes = []int{node}
	if err := b.run.node(node).Kill(); err != nil {
		return err
	}
	places := []string{"", "data/raft/", "data/state/", "data/snapshots/", "data/audit/"}
	rule := faultfs.Rule{Ops: faultfs.Read, Errno: syscall.EIO, Pattern: places[b.rng.IntN(len(places))]}
	if b.rng.IntN(2) == 0 {
		rule.Times = 1 + b.rng.Int64N(20)
	}
	// Losing power also has the kernel forget what it holds of the files.
	if err := errors.Join(b.loseUnsynced(node), b.startBad(node, rule)); err != nil {
		return err
	}
	return b.replug(node)
}

// startBad starts a node from a disk with a fault and gives it a while to notice.
func (b *blow) startBad(node int, rule faultfs.Rule) error {
	fs := b.run.disks[node].system()
	before := fs.Counts()[badDisk]
	rule.Name = badDisk
	b.run.breakDisk()
	if err := fs.Set(rule); err != nil {
		return err
	}
	ended, _, err := b.startDoubtful(node, 15*time.Second, true)
	if err != nil {
		return err
	}
	if ended {
		b.prove("nodes that refused to serve", 1)
	} else {
		b.hold()
	}
	fs.Clear(badDisk)
	b.prove("reads failed", fs.Counts()[badDisk]-before)
	return nil
}

// nearlyFull leaves a node less room than it wants to go on taking writes with. It
// must refuse them, and go on with everything else, until there is room again.
func (b *blow) nearlyFull() error {
	node := b.leaderOrAny()
	b.nodes = []int{node}
	fs := b.run.disks[node].system()
	if err := fs.Set(faultfs.Rule{Name: badDisk, Full: true, Room: 64 << 20}); err != nil {
		return err
	}
	for range 30 {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), time.Second)
		_, err := b.run.askers[node].Secrets.Put(ctx, "room/for-one-more", client.Data{"v": client.Text("x")}, client.PutOptions{})
		cancel()
		if e := client.AsError(err); e != nil && e.Reason == client.ReasonDiskFull {
			b.prove("writes refused for want of room", 1)
			break
		}
		b.holdFor(100*time.Millisecond, 200*time.Millisecond)
	}
	b.hold()
	fs.Clear(badDisk)
	return nil
}

// slowSyncs makes each sync of a node slow. One that takes two of them for a
// write may give its disk up.
func (b *blow) slowSyncs() error {
	node := b.leaderOrAny()
	b.nodes = []int{node}
	delay := 10*time.Millisecond + b.upTo(2*time.Second)
	if err := b.impair(node, faultfs.Rule{Ops: faultfs.Sync, Delay: delay}, "syncs slowed down", time.Second, 4*time.Second); err != nil {
		return err
	}
	if delay > 800*time.Millisecond {
		return b.replug(node)
	}
	return nil
}

// hangSyncs has no sync of a node return for a while: after two seconds it must
// fall silent as a leader, after five it must give up.
func (b *blow) hangSyncs() error {
	node := b.leaderOrAny()
	b.nodes = []int{node}
	least, most := 300*time.Millisecond, 3*time.Second
	halts := b.rng.IntN(2) == 0
	if halts {
		least, most = 7*time.Second, 8*time.Second
	}
	if err := b.impair(node, faultfs.Rule{Ops: faultfs.Sync, Hang: true}, "syncs hung", least, most); err != nil {
		return err
	}
	if halts {
		return b.replug(node)
	}
	return nil
}
