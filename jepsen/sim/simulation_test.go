package sim_test

import (
	"flag"
	"testing"

	"github.com/conclave-secrets/conclave/jepsen/bubble"
	"github.com/conclave-secrets/conclave/jepsen/sim"
)

var seeds = flag.Uint64("seeds", 10, "how many seeds to simulate")

// on makes the bubbles of a test.
func on(t *testing.T) bubble.Runner {
	return func(seed uint64, f func()) { bubble.Run(t, seed, f) }
}

// Whatever goes wrong with messages, processes, clocks and disks: what clients
// saw is linearizable where it claims to be, weaker where it says so, and
// everything acknowledged is there in the end, alike on every node.
//
// These are a few seeds under the test's own conditions. The test of the command one
// folder up runs many, on one processor each, and asks whether enough went wrong.
func TestSimulation(t *testing.T) {
	var sum sim.Counts
	for seed := range *seeds {
		r, err := sim.Run(on(t), sim.Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.Violations() {
			t.Errorf("seed %d: %s\nagain: go run ./jepsen replay --seed %d", seed, v, seed)
		}
		sum.Add(r.Counts)
	}
	t.Log(sum.String())
}
