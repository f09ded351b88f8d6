package sim_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/sim"
)

// Hours of virtual time are as sound as seconds: leases of hours expire, receipts and
// their leases go, and the rest is judged as ever.
func TestLongRuns(t *testing.T) {
	var sum sim.Counts
	began, before := time.Now(), processorTime(t)
	for seed := range uint64(4) {
		r, err := sim.Run(on(t), sim.Options{Seed: seed, Stretch: 20, Leisure: 250})
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.Violations() {
			t.Errorf("seed %d: %s", seed, v)
		}
		longest := time.Duration(0)
		for _, o := range r.Run.Ops {
			if o.Kind == history.Grant && o.Outcome == history.Done {
				longest = max(longest, o.TTL)
			}
		}
		if longest < time.Hour {
			t.Errorf("seed %d: the longest lease was one of %v, want hours", seed, longest)
		}
		sum.Add(r.Counts)
	}
	if sum.Virtual < 24*time.Hour || sum.Expired == 0 || sum.LeaderChanges == 0 {
		t.Errorf("too little happened: %v", sum.String())
	}
	used := processorTime(t) - before
	t.Logf("%.1f hours of virtual time in %v, %.1f for each second of processor time: %v", sum.Virtual.Hours(), time.Since(began).Round(time.Millisecond),
		sum.Virtual.Hours()/used.Seconds(), sum.String())
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
