package report_test

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/report"
)

func sample() *history.Run {
	run := &history.Run{Header: history.Header{Gaps: []time.Duration{3 * time.Second, time.Second, 2 * time.Second}, Kind: "sim", Seed: 7, Nodes: 3, Clients: 1, Commit: "abc<script>", Started: time.Unix(1, 0), Replay: "again 7"},
		Faults: []history.Fault{{Name: "halves <b>", Nodes: []int{0}, Began: time.Second, Ended: 2 * time.Second, Proofs: []history.Proof{{What: "messages dropped", Count: 3}}},
			{Name: "halves <b>", Nodes: []int{0}, Began: 3 * time.Second, Ended: 4 * time.Second}}}
	for i := range 300 {
		at := time.Duration(i) * 20 * time.Millisecond
		n := uint64(i + 1)
		value := "v" + time.Duration(i).String()
		run.Ops = append(run.Ops, &history.Op{Kind: history.Put, Key: "k", Called: at, Returned: at + time.Millisecond, Value: value, Number: n, Index: n, Outcome: history.Done})
	}
	return run
}

func publish(t *testing.T, dir string, run *history.Run) (*report.Summary, string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "node1.log")
	if err := os.WriteFile(log, []byte("it said so\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := report.Summarise(run)
	folder, err := report.Publish(dir, run, s, []string{log})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(folder, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	return s, string(raw)
}

func TestPublish(t *testing.T) {
	dir := t.TempDir()
	s, page := publish(t, dir, sample())
	if s.Verdict != report.Pass || s.Searched != 300 || s.Gap.P50 != 2*time.Second || s.Gap.Max != 3*time.Second {
		t.Errorf("the summary of a good run: %+v", s)
	}
	if f := s.Faults[0]; f.Done != 2 || f.Bit != 1 || f.Proofs["messages dropped"] != 3 {
		t.Errorf("its faults: %+v", f)
	}
	for _, want := range []string{"again 7", "300 requests on 1 keys", `href="node1.log"`, "3 messages dropped", "halves &lt;b&gt;", "<path d=\"M"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, never := range []string{"<script", "http://", "https://", "halves <b>"} {
		if strings.Contains(page, never) {
			t.Errorf("the page has %q", never)
		}
	}

	bad := sample()
	bad.Seed = 8
	bad.Ops = append(bad.Ops, &history.Op{Kind: history.Get, Key: "k", Called: 7 * time.Second, Returned: 7*time.Second + 1, Read: "v0s", Number: 1, Index: 300, Outcome: history.Done})
	s, page = publish(t, dir, bad)
	if s.Verdict != report.Fail || !strings.Contains(page, "All requests around it") || !strings.Contains(page, "<b>7s..7.000000001s client 0") || !strings.Contains(page, "There is no place for this one") || !strings.Contains(page, `href="key-0.html"`) {
		t.Errorf("a stale read: %s, %.200q", s.Verdict, s.Found)
	}
	empty := &history.Run{Header: history.Header{Kind: "real", Seed: 9, Invalid: []string{"nothing happened"}, Started: time.Unix(2, 0)}}
	if s, _ := publish(t, dir, empty); s.Verdict != report.Invalid {
		t.Errorf("a run in which nothing happened: %s", s.Verdict)
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`class="verdict fail">FAIL`, `class="verdict pass">pass`, `class="verdict invalid">INVALID`, "nothing happened", "seed-7/index.html", "not linearizable"} {
		if !strings.Contains(string(index), want) {
			t.Errorf("the index lacks %q", want)
		}
	}
}

// The index adds up runs and batches, and counts no seed twice; gaps are ranked over
// all runs, apart for each kind of disks.
func TestTotals(t *testing.T) {
	dir := t.TempDir()
	ms := time.Millisecond
	for i, r := range []struct {
		kind, disks, batch string
		gaps               []time.Duration
	}{
		{"real", "", "", []time.Duration{100 * ms, 300 * ms}},
		{"real", "", "", []time.Duration{200 * ms}},
		{"real", "fuse", "", []time.Duration{900 * ms}},
		{"sim", "", "batch", nil},
		{"sim", "", "another batch", nil},
	} {
		run := sample()
		run.Seed, run.Kind, run.Disks, run.Batch, run.Gaps = uint64(i), r.kind, r.disks, r.batch, r.gaps
		if _, err := report.Write(dir, run, report.Summarise(run), nil); err != nil {
			t.Fatal(err)
		}
	}
	b := &report.Batch{Folder: "batch", Seeds: 10, Ops: 1000, Searched: 900, Virtual: time.Hour, LeaderChanges: 4, Early: "interrupted after 10 seeds",
		Faults: []report.FaultCount{{Name: "halves", Done: 7, Bit: 6}},
		Found:  []report.WrongSeed{{Seed: 3, Found: []string{"it fell over\nand lay there"}, Page: "there", Replay: "again --seed 3"}}}
	b.Judge()
	if err := report.PublishBatch(dir, b); err != nil {
		t.Fatal(err)
	}
	got, err := report.Total(dir)
	if err != nil {
		t.Fatal(err)
	}
	if r := got.Real; r.Runs != 3 || r.Pass != 3 || r.Ops != 900 || r.Searched != 900 || r.Faults != 6 || r.Bit != 3 || r.Leaders != 4 {
		t.Errorf("real runs add up to %+v", r)
	}
	if s := got.Simulated; s.Runs != 2 || s.Pass != 1 || s.Fail != 1 || s.Seeds != 11 || s.Ops != 1300 || s.Leaders != 4 || s.Faults != 9 || s.Bit != 7 {
		t.Errorf("the simulation adds up to %+v", s)
	}
	want := []report.GapTotal{{Disks: "fuse", Gap: report.Gap{Count: 1, P50: 900 * ms, P99: 900 * ms, Max: 900 * ms}},
		{Disks: "the machine's own", Gap: report.Gap{Count: 3, P50: 200 * ms, P99: 300 * ms, Max: 300 * ms}}}
	slices.SortFunc(got.Gaps, func(a, b report.GapTotal) int { return cmp.Compare(a.Disks, b.Disks) })
	if !slices.Equal(got.Gaps, want) {
		t.Errorf("gaps are %+v, want %+v", got.Gaps, want)
	}
	for file, texts := range map[string][]string{
		"index.html":       {"simulation, 10 seeds from 0, ended early", "seed 3: it fell over", "batch/index.html", "900ms"},
		"batch/index.html": {"interrupted after 10 seeds", "again --seed 3", "../there/index.html", "and lay there"},
	} {
		page, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			if !strings.Contains(string(page), text) {
				t.Errorf("%s lacks %q", file, text)
			}
		}
	}
}

// The moment of a finding is that of the request that it names, else that of the first
// answer at its index; what was at work then is told.
func TestMoments(t *testing.T) {
	run := sample()
	run.Violated = []string{"n1 has state aa at index 71, another replica bb", "no answer although nothing was wrong any more: " + run.Ops[250].String(), "it smells"}
	s, page := publish(t, t.TempDir(), run)
	if s.Verdict != report.Fail || len(s.Pictures) != 1 {
		t.Errorf("%s, pictures %q", s.Verdict, s.Pictures)
	}
	for _, want := range []string{
		"<h3>n1 has state aa at index 71, another replica bb</h3>\n<p>At 1.401s of the run.",
		"At work then, or until a second before: halves &lt;b&gt; (nodes [0]).",
		"At 5.001s of the run, key <code>k</code>: <a href=\"key-0.html\">",
		"At work then, or until a second before: no fault.",
		"<h3>it smells</h3>",
		"<b>1.4s..1.401s client 0",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(page, "<svg"); n != 4 {
		t.Errorf("%d drawings, want one for each of two moments, and two over time", n)
	}
}

// A folder in which nothing was published has no totals.
func TestTotalsOfNothing(t *testing.T) {
	if _, err := report.Total(t.TempDir()); !errors.Is(err, report.ErrNoRuns) {
		t.Errorf("%v, want %v", err, report.ErrNoRuns)
	}
}
