package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var seeds = flag.String("seeds", "200", "how many seeds the simulation runs")

// build makes the command, since a seed needs a process of its own.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jepsen")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// call runs the command and returns its exit code and what it wrote.
func call(t *testing.T, path string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return code, out.String(), complaints.String()
}

// The simulation over many seeds finds nothing, and enough went wrong in it for that
// to mean something.
func TestSimulation(t *testing.T) {
	code, out, complaints := call(t, build(t), "sim", "--seeds", *seeds, "--format", "json")
	if code != 0 {
		t.Fatalf("exit code %d: %s%s", code, out, complaints)
	}
	var sum tally
	if err := json.Unmarshal([]byte(out), &sum); err != nil {
		t.Fatal(err)
	}
	t.Log(sum.Counts.String())
}

// What is found leaves a page, a history that can be judged again and a command that
// finds it again; and that command makes it smaller. The bug is a mutant's.
func TestFindings(t *testing.T) {
	path, dir := build(t), t.TempDir()
	code, out, complaints := call(t, path, "sim", "--seeds", "2", "--out", dir, "--all", "--length", "1s")
	if code != 0 {
		t.Fatalf("exit code %d: %s%s", code, out, complaints)
	}
	histories, err := filepath.Glob(filepath.Join(dir, "*", "history.jsonl"))
	if err != nil || len(histories) != 2 {
		t.Fatalf("%d histories of 2 seeds: %v", len(histories), err)
	}
	if code, out, _ := call(t, path, append([]string{"check"}, histories...)...); code != 0 || strings.Count(out, ": pass\n") != 2 {
		t.Errorf("judged again, with code %d: %s", code, out)
	}

	// One answer is changed: a read that shows a value of nobody.
	raw, err := os.ReadFile(histories[0])
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(raw, []byte(`"read":"`), []byte(`"read":"not `), 1)
	if bytes.Equal(changed, raw) {
		t.Fatal("nothing was read in a second")
	}
	if err := os.WriteFile(histories[0], changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := call(t, path, "check", histories[0]); code != exitFound || !strings.Contains(out, "a value that nobody wrote there") || !strings.Contains(out, "replay --seed") {
		t.Errorf("a value out of nothing, with code %d: %s", code, out)
	}
	if code, _, complaints := call(t, path, "report", dir); code != 0 {
		t.Errorf("making the pages anew, with code %d: %s", code, complaints)
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.html"))
	if err != nil || !strings.Contains(string(index), "FAIL") {
		t.Errorf("the index does not tell of it: %v", err)
	}
	if code, out, _ := call(t, path, "replay", histories[1], "--times", "1", "--out", dir); code != 0 || !strings.Contains(out, "nothing was wrong in 1 runs") {
		t.Errorf("replayed, with code %d: %s", code, out)
	}
	if code, out, _ := call(t, path, "mutants", "--only", "no guards", "--format", "json"); code != 0 || !strings.Contains(out, `"Caught":true`) {
		t.Errorf("a mutant, with code %d: %s", code, out)
	}
}

func TestBadInput(t *testing.T) {
	path := build(t)
	bad := filepath.Join(t.TempDir(), "bad.jsonl")
	if err := os.WriteFile(bad, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"no fault is called":           {"sim", "--seeds", "1", "--faults", "rain"},
		"no workload is called":        {"sim", "--seeds", "1", "--workloads", "golf"},
		"is not one of text, json":     {"sim", "--format", "song"},
		"no such file":                 {"check", "nothing.jsonl"},
		"not a history of this format": {"check", bad},
		"name a seed":                  {"replay"},
		"no mutant is called":          {"mutants", "--only", "Godzilla"},
		"holds no runs":                {"report", t.TempDir()},
		"unknown command":              {"dance"},
	} {
		if code, _, complaints := call(t, path, args...); code != exitUsage || !strings.Contains(complaints, want) {
			t.Errorf("%v: exit code %d, %q; want %q", args, code, complaints, want)
		}
	}
	if code, out, _ := call(t, path, "sim", "--seeds", "0"); code != exitInvalid {
		t.Errorf("no seed at all: exit code %d, %s", code, out)
	}
}

// A run gets smaller by one thing at a time, and never larger or empty.
func TestReductions(t *testing.T) {
	o := simOptions{}
	o.Faults, o.Clients, o.Duration = []string{"a", "b", "c"}, 2, 2*shortest+1
	o.Workloads = nil
	seen := map[string]bool{}
	for _, r := range reductions(o.Options) {
		seen[r.what] = true
		smaller := len(r.options.Faults) < 3 || r.options.Clients < 2 || r.options.Duration < o.Duration
		if !smaller || r.options.Clients < 1 || r.options.Faults == nil {
			t.Errorf("%s: %+v", r.what, r.options)
		}
	}
	if len(seen) != 8 {
		t.Errorf("steps: %v", seen)
	}
}
