package report_test

import (
	"os"
	"path/filepath"
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
	if s.Verdict != report.Fail || !strings.Contains(page, "What clients saw around it") || !strings.Contains(page, "key-0.html") {
		t.Errorf("a stale read: %s, %q", s.Verdict, s.Found)
	}
	empty := &history.Run{Header: history.Header{Kind: "real", Seed: 9, Invalid: []string{"nothing happened"}, Started: time.Unix(2, 0)}}
	if s, _ := publish(t, dir, empty); s.Verdict != report.Invalid {
		t.Errorf("a run in which nothing happened: %s", s.Verdict)
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`class="fail">FAIL`, `class="pass">pass`, `class="invalid">INVALID`, "nothing happened", "seed-7/index.html", "not linearizable"} {
		if !strings.Contains(string(index), want) {
			t.Errorf("the index lacks %q", want)
		}
	}
}
