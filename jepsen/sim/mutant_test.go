package sim_test

import (
	"flag"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/jepsen/sim"
)

// budget is how many seeds the simulation has for each mutant: no more than it runs by
// default.
var budget = flag.Int("budget", 200, "how many seeds to give each mutant")

// Every mutant is caught, by the checker that is meant for it.
func TestMutantsAreCaught(t *testing.T) {
	mutants := sim.Mutants()
	if len(mutants) < 25 {
		t.Errorf("there are %d mutants, want 25 or more", len(mutants))
	}
	for _, m := range mutants {
		t.Run(m.Name, func(t *testing.T) {
			tried, caught, err := sim.RunMutant(on(t), m.Name, 0, *budget)
			if err != nil {
				t.Fatal(err)
			}
			if caught == "" {
				t.Fatalf("not caught within %d seeds", tried)
			}
			summary, _, _ := strings.Cut(caught, "\n")
			t.Logf("caught by seed %d: %.200s", tried-1, summary)
		})
	}
}

func TestUnknownMutantIsAnError(t *testing.T) {
	if _, _, err := sim.RunMutant(on(t), "no such thing", 0, 1); err == nil {
		t.Error("a mutant of an unknown name was run")
	}
}
