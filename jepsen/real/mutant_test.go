package real_test

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/internal/testprocess"
	"github.com/conclave-secrets/conclave/jepsen/fabric"
	"github.com/conclave-secrets/conclave/jepsen/real"
)

var mutantsFlag = flag.Bool("mutants", false, "build broken binaries and see that runs show it: minutes")

// Each mutant is one change of a source file, made for the compiler only.
var mutants = []struct {
	name, file, old, new string
	faults               []string
}{
	{"reads ask nobody", "cluster/readindex.go", "index, err := n.confirm(ctx)", "index, err := n.marks.at(), error(nil)",
		[]string{"node cut off", "leader cut off"}},
	{"guards are ignored", "fsm/apply.go", "return h.Current == g.Number && sameRevision, nil", "return sameRevision || true, nil", []string{"loss", "delay"}},
	{"receipts are not found", "core/receipt.go", "if err != nil || record == nil {", "if err == nil || record == nil {", []string{"loss", "leader killed"}},
	{"uses are not counted", "core/identity.go", "token.UsesLeft = left - 1", "token.UsesLeft = left", []string{"loss"}},
	{"wrapped answers are given out twice", "core/wrapping.go", "t.stage(fsm.Operation{Kind: fsm.OpRevokeLease, Key: w.key})\n\treturn decode", "return decode", []string{"loss"}},
	{"access lists outlive their policies", "core/directory.go", "table == nil || table.revision != revision", "table == nil", []string{"loss"}},
	{"a leader asks no quorum", "cluster/readindex.go", "if need <= 1 {", "if need <= 99 {",
		[]string{"leader paused"}},
	{"the log is not synced", "storage/raftlog/bolt.go", "Path: path,", "Path: path, NoSync: true,",
		[]string{"all power cut"}},
}

// A binary that does not keep its promises fails, whatever else a run says.
func TestMutantsAreCaught(t *testing.T) {
	if !*mutantsFlag {
		t.Skip("SKIPPED: run with -mutants")
	}
	if err := fabric.Available(); err != nil {
		t.Skipf("SKIPPED, NOTHING WAS TESTED: %v", err)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
			defer cancel()
			dir := t.TempDir()
			binary, err := testprocess.Build(ctx, dir, "-overlay", overlay(t, dir, m.file, m.old, m.new))
			if err != nil {
				t.Fatal(err)
			}
			for seed := uint64(1); seed <= 6; seed++ {
				out, err := real.Run(ctx, real.Options{Binary: binary, Dir: t.TempDir(), Nodes: 3, Clients: 20, For: 20 * time.Second, Seed: seed, Faults: m.faults})
				if err != nil {
					t.Fatal(err)
				}
				if found := out.Judge(); len(found) > 0 {
					t.Logf("seed %d, %d findings in %d requests, the first: %.700s", seed, len(found), out.Counts.Ops, found[0])
					return
				}
			}
			t.Error("nothing was found")
		})
	}
}

// overlay makes go build read a changed file in place of one of the module's.
func overlay(t *testing.T, dir, file, old, new string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", file))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(source), old) != 1 {
		t.Fatalf("%s does not hold %q once: the mutant must follow the code", file, old)
	}
	changed := filepath.Join(dir, "changed.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), old, new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
