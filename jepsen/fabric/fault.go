package fabric

import (
	"sync/atomic"
	"time"
)

// A Pair is one direction between two hosts, by their numbers.
type Pair struct{ From, To int }

// An Effect is what happens to packets. Zero fields do nothing.
type Effect struct {
	Class     Class         // of the packets that suffer; 0: Everything
	Cut       bool          // every packet is lost
	Loss      float64       // the share of packets that is lost
	Duplicate float64       // the share of packets that comes twice
	Delay     time.Duration // of each packet
	Jitter    time.Duration // up to as much more; packets keep their order
	Reorder   float64       // the share of packets that is held back while later ones overtake
	Hold      time.Duration // up to as long are those held back; 0: 20 ms
}

// Counts is what happened to packets.
type Counts struct{ Passed, Dropped, Delayed, Duplicated, Reordered, Bytes uint64 }

// A Fault is an Effect at work on some pairs. Several may be at work at once; a
// packet suffers all of them.
type Fault struct {
	effect Effect
	fabric *Fabric
	pairs  []Pair

	passed, dropped, delayed, duplicated, reordered, bytes atomic.Uint64
}

// Counts is what this fault did so far, also after it was lifted. Passed are the
// packets of its class that it let through, Reordered those that came after one
// sent later.
func (x *Fault) Counts() Counts {
	return Counts{x.passed.Load(), x.dropped.Load(), x.delayed.Load(), x.duplicated.Load(), x.reordered.Load(), x.bytes.Load()}
}

// Lift ends the fault. Packets that it holds back are still delivered. To lift
// twice is to lift once.
func (x *Fault) Lift() {
	for _, p := range x.pairs {
		x.fabric.links[p.From][p.To].remove(x)
	}
}

// Impose puts an effect to work on pairs until it is lifted.
func (f *Fabric) Impose(e Effect, pairs ...Pair) *Fault {
	if e.Class == 0 {
		e.Class = Everything
	}
	if e.Hold == 0 {
		e.Hold = 20 * time.Millisecond
	}
	x := &Fault{effect: e, fabric: f, pairs: pairs}
	for _, p := range pairs {
		f.links[p.From][p.To].add(x)
	}
	return x
}

// Between are both directions between each host of one side and each of the other.
func Between(one, other []int) (pairs []Pair) {
	for _, a := range one {
		for _, b := range other {
			if a != b {
				pairs = append(pairs, Pair{a, b}, Pair{b, a})
			}
		}
	}
	return pairs
}

// Among are all directions among hosts.
func Among(hosts []int) (pairs []Pair) {
	for _, a := range hosts {
		for _, b := range hosts {
			if a != b {
				pairs = append(pairs, Pair{a, b})
			}
		}
	}
	return pairs
}
