package sim

import (
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/jepsen/bubble"
)

// The weather in which a wrong count of acceptances shows does no harm to a right one:
// what is caught is the count.
func TestCountsOfVotersAreSound(t *testing.T) {
	if testing.Short() {
		t.Skip("simulates many seeds")
	}
	for name, plant := range map[string]func(*Options){
		"late answers":   onCounts(votes, true, lateAnswers, "leader cut off"),
		"remote members": onCounts(votes, true, remoteNewcomers, "leader cut off", "new member"),
	} {
		for seed := range uint64(15) {
			o := Options{Seed: seed}
			plant(&o)
			r, err := Run(func(seed uint64, f func()) { bubble.Run(t, seed, f) }, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range r.Violations() { // there may be no leader for long, but no stale read
				if strings.Contains(v, wentBack) || strings.Contains(v, notLinear) {
					t.Errorf("%s, seed %d: %s", name, seed, v)
				}
			}
		}
	}
}
