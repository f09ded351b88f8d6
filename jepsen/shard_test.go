package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/jepsen/bubble"
)

// The test binary takes the place of the command when it is started as a child. Its
// seeds are no simulations: 3 dies in a panic of a goroutine, 5 by itself, and 8
// cannot be run.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == shardCommand {
		runShard(os.Args[2:], pretend)
	}
	os.Exit(m.Run())
}

func pretend(_ shard, in bubble.Runner, seed uint64) (*verdict, error) {
	switch seed {
	case 3:
		in(seed, func() {
			done := make(chan struct{})
			go func() { panic("three is too many") }()
			<-done
		})
	case 5:
		os.Exit(1)
	case 8:
		return nil, os.ErrInvalid
	}
	return &verdict{Seed: seed}, nil
}

// A child that dies is a finding about the seed that it was at, with its last words,
// whatever its exit code; the seeds after that one are run all the same.
func TestChildrenThatDie(t *testing.T) {
	var seeds []uint64
	wrong := map[uint64]string{}
	err := shard{First: 1, Step: 2, Count: 4}.start(t.Context(), func(v *verdict) {
		seeds = append(seeds, v.Seed)
		if len(v.Wrong) > 0 {
			wrong[v.Seed] = v.Wrong[0]
		}
	})
	if err != nil || !slices.Equal(seeds, []uint64{1, 3, 5, 7}) || len(wrong) != 2 {
		t.Fatalf("seeds %d, %d of them wrong, %v; want 1, 3, 5, 7, of them 2 wrong", seeds, len(wrong), err)
	}
	if line := firstLine(wrong[3]); line != "the process ended: panic: three is too many" {
		t.Errorf("a panic is told as %q", line)
	}
	if !strings.Contains(wrong[3], "shard_test.go") {
		t.Errorf("a panic is told without its stack: %q", wrong[3])
	}
	if line := firstLine(wrong[5]); line != "the process ended: exit status 1" {
		t.Errorf("an exit is told as %q", line)
	}
}

// A task that cannot be done is no finding.
func TestShardsThatCannotBeRun(t *testing.T) {
	err := shard{First: 8, Step: 1, Count: 2}.start(t.Context(), func(v *verdict) { t.Errorf("a verdict: %+v", v) })
	if err == nil || !strings.Contains(err.Error(), os.ErrInvalid.Error()) {
		t.Errorf("%v, want %v", err, os.ErrInvalid)
	}
}
