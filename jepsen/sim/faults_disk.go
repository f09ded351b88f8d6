package sim

import (
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/conclave-secrets/conclave/internal/testcluster"
)

// breakDisk has the log of a node answer every write with err. At the first one the node
// must halt; it comes back with a disk that works and all that was acknowledged.
func (n *nemesis) breakDisk(rng *rand.Rand, hold func(), err error) int64 {
	r := n.sim.Replicas[n.leaderOr(rng)]
	p := r.Process()
	if p == nil {
		return 0
	}
	n.strike([]int{n.place(r)})
	r.BreakDisk(err)
	hold()
	return n.replaceDisk(r, p, hold)
}

// hangDisk has every write of a leader's log hang for so long that it must halt. (That it
// stops speaking as a leader before, a test of internal/testcluster shows.)
func (n *nemesis) hangDisk(rng *rand.Rand, hold func()) int64 {
	r := n.sim.Replicas[n.leaderOr(rng)]
	p := r.Process()
	if p == nil {
		return 0
	}
	n.strike([]int{n.place(r)})
	r.HangDisk(n.options.slow(12 * time.Second))
	<-time.After(n.options.slow(8 * time.Second)) // beyond cluster.Config.DiskDead
	return n.replaceDisk(r, p, hold)
}

// replaceDisk kills a node whose disk is broken and brings it back with a good one. It
// returns 1 if the node had halted, which it does if it had anything to write.
func (n *nemesis) replaceDisk(r *testcluster.Replica, p *testcluster.Process, hold func()) (halted int64) {
	if p.Node.Halted() != nil {
		halted = 1
	}
	r.Kill(testcluster.Killed)
	n.revive(r, hold)
	return halted
}

func (n *nemesis) place(r *testcluster.Replica) int {
	for i := range n.sim.Replicas {
		if n.sim.Replicas[i] == r {
			return i
		}
	}
	return 0
}

// nearlyFull has a node refuse writes for lack of space.
func (n *nemesis) nearlyFull(rng *rand.Rand, hold func()) {
	r := n.sim.Replicas[rng.IntN(len(n.sim.Replicas))]
	r.NearlyFull(true)
	hold()
	r.NearlyFull(false)
}

var diskFaults = []fault{
	{"failing disk", func(n *nemesis, rng *rand.Rand, hold func()) { n.prove(n.breakDisk(rng, hold, syscall.EIO)) }},
	{"full disk", func(n *nemesis, rng *rand.Rand, hold func()) { n.prove(n.breakDisk(rng, hold, syscall.ENOSPC)) }},
	{"hanging disk", func(n *nemesis, rng *rand.Rand, hold func()) { n.prove(n.hangDisk(rng, hold)) }},
	{"nearly full disk", (*nemesis).nearlyFull},
}
