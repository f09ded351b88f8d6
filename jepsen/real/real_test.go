package real_test

import (
	"context"
	"errors"
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/internal/testprocess"
	"github.com/conclave-secrets/conclave/jepsen/fabric"
	"github.com/conclave-secrets/conclave/jepsen/real"
)

var (
	seedFlag  = flag.Uint64("seed", 1, "seed of the run")
	forFlag   = flag.Duration("for", 25*time.Second, "how long the faults last")
	nodesFlag = flag.Int("nodes", 3, "nodes")
	faultFlag = flag.String("fault", "", "only these faults, separated by commas")
	keepFlag  = flag.String("keep", "", "an empty directory for the nodes, which stays")
)

// Real nodes keep their promises while they are cut off, killed and stopped.
func TestSmoke(t *testing.T) {
	if testing.Short() {
		t.Skip("`make jepsen` runs the same for longer")
	}
	if err := fabric.Available(); err != nil {
		t.Skipf("SKIPPED, NOTHING WAS TESTED: %v", err)
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), *forFlag+4*time.Minute)
	defer cancel()
	binary, err := testprocess.Build(ctx, dir, "-tags", real.BuildTag)
	if err != nil {
		t.Fatal(err)
	}
	o := real.Options{Binary: binary, Dir: t.TempDir(), Nodes: *nodesFlag, For: *forFlag, Seed: *seedFlag, Progress: func(s string) { t.Log(s) }}
	if *faultFlag != "" {
		o.Faults = strings.Split(*faultFlag, ",")
	}
	if *keepFlag != "" {
		o.Dir = *keepFlag
	}
	out, err := real.Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d: %v; gaps %v; took %v", out.Seed, out.Counts, out.Gaps, out.Took.Round(time.Millisecond))
	if c := out.Counts; c.OverHTTP == 0 || c.Access == 0 || c.Turned == 0 {
		t.Error("some kind of request was never sent, or never turned away")
	}
	for _, s := range out.Notes {
		t.Log("note: ", s)
	}
	for _, s := range out.Judge() {
		t.Error(s)
	}
	for _, s := range out.Invalid {
		t.Errorf("INVALID: %s", s)
	}
}

func TestBadOptions(t *testing.T) {
	if err := fabric.Available(); err != nil {
		t.Skipf("SKIPPED, NOTHING WAS TESTED: %v", err)
	}
	for name, o := range map[string]real.Options{
		"no binary":     {Dir: t.TempDir()},
		"unknown fault": {Binary: "conclave", Dir: t.TempDir(), Faults: []string{"rain"}},
		"no such file":  {Binary: "/nonexistent/conclave", Dir: t.TempDir()},
	} {
		if _, err := real.Run(context.Background(), o); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		} else {
			t.Log(err)
		}
	}
}
