package real

import (
	"context"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/fabric"
)

// Partitions leave the clients their way to every node: a leader that nobody but
// its clients can reach is where stale answers come from.
var networkFaults = []fault{
	{"leader cut off", network, 3, func(b *blow) error { return b.split([]int{b.leaderNow()}) }},
	{"node cut off", network, 3, func(b *blow) error { return b.split([]int{b.anyNode()}) }},
	{"halves", network, 3, func(b *blow) error { return b.split(b.everyNode()[:b.run.options.Nodes/2]) }},
	{"majority ring", network, 5, (*blow).ring},
	{"bridge", network, 3, (*blow).bridge},
	{"one-way cut", network, 3, (*blow).oneWay},
	{"flapping", network, 3, (*blow).flap},
	{"clients cut off", network, 3, (*blow).clientsOff},
	{"gossip cut", network, 3, (*blow).gossipOff},
	{"loss", network, 3, func(b *blow) error {
		return b.suffer(fabric.Effect{Loss: 0.02 + 0.2*b.rng.Float64()})
	}},
	{"delay", network, 3, func(b *blow) error {
		return b.suffer(fabric.Effect{Delay: b.upTo(60 * time.Millisecond), Jitter: time.Millisecond + b.upTo(120*time.Millisecond)})
	}},
	{"reorder", network, 3, func(b *blow) error {
		return b.suffer(fabric.Effect{Reorder: 0.1 + 0.3*b.rng.Float64(), Hold: 30 * time.Millisecond})
	}},
	{"duplicate", network, 3, func(b *blow) error { return b.suffer(fabric.Effect{Duplicate: 0.1 + 0.4*b.rng.Float64()}) }},
}

func (b *blow) upTo(d time.Duration) time.Duration { return time.Duration(b.rng.Int64N(int64(d))) }

// impose puts an effect to work for a while, and for longer if it has met no packet
// by then, and proves what it did.
func (b *blow) impose(e fabric.Effect, pairs []fabric.Pair) {
	x := b.run.fabric.Impose(e, pairs...)
	b.imposed = append(b.imposed, x)
	b.hold()
	for range 50 {
		if c := x.Counts(); c.Dropped+c.Delayed+c.Duplicated+c.Reordered > 0 {
			break
		}
		pause(context.WithoutCancel(b.ctx), 100*time.Millisecond)
	}
	b.bare(x)
}

// bare ends a fault of the network and writes down what it did.
func (b *blow) bare(x *fabric.Fault) {
	x.Lift()
	c := x.Counts()
	for _, p := range []struct {
		what  string
		count uint64
	}{{"packets dropped", c.Dropped}, {"packets delayed", c.Delayed}, {"packets repeated", c.Duplicated}, {"packets overtaken", c.Reordered}} {
		if p.count > 0 {
			b.prove(p.what, int64(p.count))
		}
	}
}

// others are the nodes that are not in side.
func (b *blow) others(side []int) (rest []int) {
	in := map[int]bool{}
	for _, i := range side {
		in[i] = true
	}
	for i := range b.run.options.Nodes {
		if !in[i] {
			rest = append(rest, i)
		}
	}
	return rest
}

func (b *blow) split(side []int) error {
	b.nodes = side
	b.impose(fabric.Effect{Cut: true}, fabric.Between(side, b.others(side)))
	return nil
}

// ring leaves each node its neighbours on a ring: everybody sees a majority, and
// no two the same.
func (b *blow) ring() error {
	b.nodes = b.everyNode()
	var pairs []fabric.Pair
	for i, one := range b.nodes {
		for j, other := range b.nodes {
			if d := (j - i + len(b.nodes)) % len(b.nodes); d > 1 && d < len(b.nodes)-1 {
				pairs = append(pairs, fabric.Pair{From: one, To: other})
			}
		}
	}
	b.impose(fabric.Effect{Cut: true}, pairs)
	return nil
}

// bridge leaves two halves that both see one node.
func (b *blow) bridge() error {
	b.nodes = b.everyNode()
	half := (len(b.nodes) - 1) / 2
	b.impose(fabric.Effect{Cut: true}, fabric.Between(b.nodes[1:1+half], b.nodes[1+half:]))
	return nil
}

// oneWay stops what a leader sends, or what it is sent.
func (b *blow) oneWay() error {
	leader := b.leaderNow()
	b.nodes = []int{leader}
	sends := b.rng.IntN(2) == 0
	var pairs []fabric.Pair
	for _, p := range fabric.Between(b.nodes, b.others(b.nodes)) {
		if (p.From == leader) == sends {
			pairs = append(pairs, p)
		}
	}
	b.impose(fabric.Effect{Cut: true}, pairs)
	return nil
}

// flap cuts a leader off again and again, for shorter than an election takes and longer.
func (b *blow) flap() error {
	b.nodes = []int{b.leaderNow()}
	for range 4 + b.rng.IntN(4) {
		x := b.run.fabric.Impose(fabric.Effect{Cut: true}, fabric.Between(b.nodes, b.others(b.nodes))...)
		b.imposed = append(b.imposed, x)
		b.holdFor(50*time.Millisecond, 700*time.Millisecond)
		b.bare(x)
		b.holdFor(50*time.Millisecond, 400*time.Millisecond)
	}
	return nil
}

// clientsOff takes the clients their way to some nodes, or to all.
func (b *blow) clientsOff() error {
	b.nodes = b.everyNode()[:1+b.rng.IntN(b.run.options.Nodes)]
	b.impose(fabric.Effect{Cut: true}, fabric.Between(b.nodes, []int{b.run.clientHost()}))
	return nil
}

func (b *blow) gossipOff() error {
	b.nodes = b.everyNode()
	b.impose(fabric.Effect{Cut: true, Class: fabric.Gossip}, fabric.Among(b.nodes))
	return nil
}

// suffer has the packets among all nodes suffer, or those of a leader, and at
// times those of the clients, too.
func (b *blow) suffer(e fabric.Effect) error {
	b.nodes = b.everyNode()
	pairs := fabric.Among(b.nodes)
	if b.rng.IntN(3) == 0 {
		b.nodes = []int{b.leaderNow()}
		pairs = fabric.Between(b.nodes, b.others(b.nodes))
	}
	if b.rng.IntN(2) == 0 {
		pairs = append(pairs, fabric.Between(b.nodes, []int{b.run.clientHost()})...)
	}
	b.impose(e, pairs)
	return nil
}
