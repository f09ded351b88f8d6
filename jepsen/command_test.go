package main

import (
	"bytes"
	"cmp"
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

// Children of the test binary are the command (a seed needs a process of its own); or
// the command with children that only pretend to simulate.
const (
	roleVariable = "CONCLAVE_JEPSEN_TEST"
	roleCommand  = "command"
	rolePretend  = "pretend"
)

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case rolePretend:
		if len(os.Args) > 1 && os.Args[1] == shardCommand {
			runShard(os.Args[2:], pretend)
		}
	}
	main()
}

// call runs the command and returns its exit code and what it wrote.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+cmp.Or(os.Getenv(roleVariable), roleCommand))
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
	code, out, complaints := call(t, "sim", "--seeds", *seeds, "--format", "json")
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
	dir := t.TempDir()
	code, out, complaints := call(t, "sim", "--seeds", "2", "--out", dir, "--all", "--length", "1s")
	if code != 0 {
		t.Fatalf("exit code %d: %s%s", code, out, complaints)
	}
	histories, err := filepath.Glob(filepath.Join(dir, "*", "history.jsonl"))
	if err != nil || len(histories) != 2 {
		t.Fatalf("%d histories of 2 seeds: %v", len(histories), err)
	}
	if code, out, _ := call(t, append([]string{"check"}, histories...)...); code != 0 || strings.Count(out, ": pass\n") != 2 {
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
	if code, out, _ := call(t, "check", histories[0]); code != exitFound || !strings.Contains(out, "a value that nobody wrote there") || !strings.Contains(out, "replay --seed") {
		t.Errorf("a value out of nothing, with code %d: %s", code, out)
	}
	if code, _, complaints := call(t, "report", dir); code != 0 {
		t.Errorf("making the pages anew, with code %d: %s", code, complaints)
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.html"))
	if err != nil || !strings.Contains(string(index), "FAIL") {
		t.Errorf("the index does not tell of it: %v", err)
	}
	if code, out, _ := call(t, "replay", histories[1], "--times", "1", "--out", dir); code != 0 || !strings.Contains(out, "nothing was wrong in 1 runs") {
		t.Errorf("replayed, with code %d: %s", code, out)
	}
	if code, out, _ := call(t, "mutants", "--only", "no guards", "--format", "json"); code != 0 || !strings.Contains(out, `"Caught":true`) {
		t.Errorf("a mutant, with code %d: %s", code, out)
	}
}

// What cannot be done is said in a sentence that names the next step, with exit code 2.
func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o700)); err != nil {
			t.Fatal(err)
		}
		return file
	}
	bad := write("bad.jsonl", "{}\n")
	cut := write("run/history.jsonl", `{"run":{"format":1,"kind":"sim","seed":1}}`+"\n")
	for _, c := range []struct {
		args []string
		want string // in one of the lines, in this order, between |
	}{
		{[]string{"sim", "--seeds", "1", "--faults", "rain"}, `no fault is called "rain"; there are: |halves`},
		{[]string{"replay", "--seed", "1", "--faults", "halves,rain"}, `no fault is called "rain"`},
		{[]string{"run", "--faults", "rain"}, `no fault is called "rain"; there are: |pause`},
		{[]string{"sim", "--seeds", "1", "--workloads", "golf"}, `no workload is called "golf"; there are: |secrets`},
		{[]string{"sim", "--format", "song"}, "is not one of text, json"},
		{[]string{"check", "nothing.jsonl"}, "nothing.jsonl: no such file"},
		{[]string{"check", bad}, "bad.jsonl: |line 1|not a history of this format|make the run again"},
		{[]string{"check", cut}, "cut off after line 1|make the run again"},
		{[]string{"check", filepath.Dir(cut)}, "is a folder; name a history in it|history.jsonl"},
		{[]string{"report", dir}, "cut off after line 1|take the file away"},
		{[]string{"report", t.TempDir()}, "holds no runs; |jepsen run"},
		{[]string{"report", filepath.Join(dir, "nowhere")}, "no such file|jepsen run"},
		{[]string{"replay"}, "name a seed (--seed) or a history"},
		{[]string{"replay", cut}, "cut off"},
		{[]string{"mutants", "--only", "Godzilla"}, `no mutant is called "Godzilla"; |--list`},
		{[]string{"run", "--binary", filepath.Join(dir, "nothing")}, "no such file|is it a conclave binary?|leave --binary out"},
		{[]string{"run", "--binary", bad}, "is it a conclave binary?|leave --binary out"},
		{[]string{"run", "--binary", write("silent", "#!/bin/sh\necho hello\n")}, "is no conclave binary|leave --binary out"},
		{[]string{"soak", "--binary", write("old", `#!/bin/sh
echo '{"version":"0.0.1","platform":"linux/amd64"}'
`)}, "is conclave 0.0.1, and this harness tests |leave --binary out"},
		{[]string{"dance"}, "unknown command"},
	} {
		code, _, complaints := call(t, c.args...)
		if code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", c.args, code, exitUsage)
		}
		rest := complaints
		for want := range strings.SplitSeq(c.want, "|") {
			_, after, ok := strings.Cut(rest, want)
			if !ok {
				t.Errorf("%v: %q lacks %q", c.args, complaints, want)
				break
			}
			rest = after
		}
	}
	if code, out, _ := call(t, "sim", "--seeds", "0"); code != exitInvalid {
		t.Errorf("no seed at all: exit code %d, %s", code, out)
	}
}

// A shell completes the names that flags take.
func TestCompletion(t *testing.T) {
	if code, out, complaints := call(t, "completion", "bash"); code != 0 || !strings.Contains(out, "__start_jepsen") {
		t.Errorf("completion for bash, with code %d: %s", code, complaints)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"sim", "--faults", "hal"}, "halves\n"},
		{[]string{"sim", "--faults", "halves,node c"}, "halves,node cut off\n"},
		{[]string{"replay", "--workloads", "le"}, "leases\n"},
		{[]string{"run", "--faults", "clock j"}, "clock jump\n"},
		{[]string{"mutants", "--only", "no guards of re"}, "no guards of records\n"},
		{[]string{"check", "--format", "j"}, "json\n"},
	} {
		if code, out, _ := call(t, append([]string{"__complete"}, c.args...)...); code != 0 || !strings.HasPrefix(out, c.want) {
			t.Errorf("%v is completed to %q, want %q", c.args, out, c.want)
		}
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
