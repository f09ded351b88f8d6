package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/conclave-secrets/conclave/jepsen/bubble"
	"github.com/conclave-secrets/conclave/jepsen/report"
	"github.com/conclave-secrets/conclave/jepsen/sim"
	"github.com/conclave-secrets/conclave/server"
)

// pretend runs seeds that are no simulations: 3 dies in a panic of a goroutine, 5 by
// itself, 8 cannot be run, and 20 interrupts the command.
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
	case 20:
		if err := syscall.Kill(os.Getppid(), syscall.SIGINT); err != nil {
			return nil, err
		}
		select {}
	}
	return &verdict{Seed: seed, Searched: 1, Counts: sim.Counts{Seeds: 1, Ops: 2, LeaderChanges: 3},
		Faults: []report.FaultCount{{Name: "rain", Done: 2, Bit: 1}}}, nil
}

// A child that dies is a finding about the seed that it was at, with its last words,
// whatever its exit code; the seeds after that one are run all the same.
func TestChildrenThatDie(t *testing.T) {
	t.Setenv(roleVariable, rolePretend)
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
	t.Setenv(roleVariable, rolePretend)
	err := shard{First: 8, Step: 1, Count: 2}.start(t.Context(), func(v *verdict) { t.Errorf("a verdict: %+v", v) })
	if err == nil || !strings.Contains(err.Error(), os.ErrInvalid.Error()) {
		t.Errorf("%v, want %v", err, os.ErrInvalid)
	}
}

// batchOf reads the one batch that was published in dir.
func batchOf(t *testing.T, dir string) (b report.Batch) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "batch.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%d batches, %v; want one", len(files), err)
	}
	raw, err := os.ReadFile(files[0])
	if err == nil {
		err = json.Unmarshal(raw, &b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A batch that is interrupted publishes what was finished, and says that it is not all.
func TestInterruptedBatch(t *testing.T) {
	t.Setenv(roleVariable, rolePretend)
	dir := t.TempDir()
	code, _, complaints := call(t, "sim", "--first", "10", "--seeds", "1000", "--jobs", "1", "--out", dir)
	if code != exitUsage || !strings.Contains(complaints, "interrupted after 10 seeds") {
		t.Errorf("exit code %d, %q", code, complaints)
	}
	b := batchOf(t, dir)
	if b.Seeds != 10 || b.Asked != 1000 || b.First != 10 || b.Early != "interrupted after 10 seeds" || b.Verdict != report.Pass {
		t.Errorf("published: %+v", b)
	}
	if b.Ops != 20 || b.Searched != 10 || b.LeaderChanges != 30 || len(b.Faults) != 1 || b.Faults[0].Done != 20 || b.Faults[0].Bit != 10 {
		t.Errorf("the sums are %+v", b)
	}
}

// A batch whose child dies publishes that as a finding, with the line that runs the seed
// again.
func TestBatchWithADeadChild(t *testing.T) {
	t.Setenv(roleVariable, rolePretend)
	dir := t.TempDir()
	if code, out, complaints := call(t, "sim", "--seeds", "5", "--jobs", "2", "--stretch", "3", "--out", dir); code != exitFound {
		t.Errorf("exit code %d: %s%s", code, out, complaints)
	}
	b := batchOf(t, dir)
	if b.Verdict != report.Fail || b.Seeds != 5 || b.Early != "" || len(b.Found) != 1 {
		t.Fatalf("published: %+v", b)
	}
	if f := b.Found[0]; f.Seed != 3 || f.Replay != "go run ./jepsen replay --seed 3 --stretch 3" || !strings.Contains(f.Found[0], "three is too many") {
		t.Errorf("found: %+v", f)
	}
}

// A binary of the version that the harness was made for is taken.
func TestSameVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "conclave")
	script := "#!/bin/sh\n" + `echo '{"version":"` + server.Version + `","platform":"linux/amd64"}'` + "\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := sameVersion(t.Context(), path); err != nil {
		t.Error(err)
	}
}
