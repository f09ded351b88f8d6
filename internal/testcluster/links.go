package testcluster

import (
	"hash/fnv"
	"math/rand/v2"
	"time"

	"github.com/conclave-secrets/conclave/cluster/clustertest"
)

// Links is the quality of the network. It gives each direction between two nodes dice of its own. The network
// has one source for all; who draws first from it depends on which goroutine
// runs first at an instant, and one draw out of turn would change the whole
// rest of a run. Here it changes one link.
type Links struct {
	network *clustertest.Network
	seed    uint64
	dice    map[[2]string]*rand.Rand // used under the network's lock only
}

func newLinks(n *clustertest.Network, seed uint64) *Links {
	l := &Links{network: n, seed: seed, dice: map[[2]string]*rand.Rand{}}
	l.Quick()
	return l
}

func (l *Links) between(from, to string) *rand.Rand {
	link := [2]string{from, to}
	if l.dice[link] == nil {
		h := fnv.New64a()
		h.Write([]byte(from + ">" + to)) // never fails
		l.dice[link] = rand.New(rand.NewPCG(l.seed, h.Sum64()))
	}
	return l.dice[link]
}

// Quick has every message take about half a millisecond.
func (l *Links) Quick() {
	l.network.SetDelay(func(_ *rand.Rand, from, to string, _ bool) time.Duration {
		return quickly(l.between(from, to))
	})
}

func quickly(rng *rand.Rand) time.Duration {
	return 300*time.Microsecond + time.Duration(rng.Int64N(int64(400*time.Microsecond)))
}

// Slow has messages that concern the victim, or all when everybody is true, take
// any time up to most.
func (l *Links) Slow(victim string, everybody bool, most time.Duration) {
	l.network.SetDelay(func(_ *rand.Rand, from, to string, _ bool) time.Duration {
		rng := l.between(from, to)
		if !everybody && from != victim && to != victim {
			return quickly(rng)
		}
		return time.Duration(rng.Int64N(int64(most)))
	})
}

// Lose has requests vanish with probability p; 0 ends it.
func (l *Links) Lose(p float64) {
	l.network.SetDrop(func(from, to string, _ any) bool { return p > 0 && l.between(from, to).Float64() < p })
}
