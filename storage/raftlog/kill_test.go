package raftlog

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/hashicorp/raft"
)

// childDir, when set, makes the test binary the process that is killed.
const childDir = "RAFTLOG_KILL_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, "child:", appendForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// appendForEver appends, votes and compacts without end, and prints each
// acknowledgement: "entry 17", "vote 4".
func appendForEver(dir string) error {
	s, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	last, err := s.LastIndex()
	if err != nil {
		return err
	}
	term, err := s.GetUint64([]byte(keyVoteTerm))
	if err != nil && err != ErrKeyNotFound {
		return err
	}
	for step := 1; ; step++ {
		n := uint64(1 + step%7)
		if err := s.StoreLogs(killBatch(last+1, last+n)); err != nil {
			return err
		}
		last += n
		fmt.Println("entry", last)
		if step%3 == 0 {
			term++
			if err := voteFor(s, term); err != nil {
				return err
			}
			fmt.Println("vote", term)
		}
		if step%50 == 0 && last > 300 {
			first, err := s.FirstIndex()
			if err != nil {
				return err
			}
			if err := s.DeleteRange(first, last-200); err != nil {
				return err
			}
		}
	}
}

// killBatch makes entries whose size and content follow from their index.
func killBatch(from, to uint64) (logs []*raft.Log) {
	for i := from; i <= to; i++ {
		e := entry(i, 1)
		e.Data = append(e.Data, make([]byte, i*131%9000)...)
		logs = append(logs, e)
	}
	return logs
}

func voteFor(s *Store, term uint64) error {
	if err := s.SetUint64([]byte(keyCurrentTerm), term); err != nil {
		return err
	}
	if err := s.SetUint64([]byte(keyVoteTerm), term); err != nil {
		return err
	}
	return s.Set([]byte(keyVoteCand), fmt.Appendf(nil, "candidate of term %d", term))
}

// A process that is killed (-9) at a random point has lost nothing that it
// acknowledged: every entry is there and whole, and the vote is one that was
// cast. 100 kills over one growing log; 10 with -short.
//
// A kill proves the order of our writes; that an fsync reaches the platter is
// the kernel's promise and outside what a test on one machine can show.
func TestKill(t *testing.T) {
	kills := 100
	if testing.Short() {
		kills = 10
	}
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 9))
	var entries, votes uint64 // the newest acknowledged
	for kill := range kills {
		e, v := runAndKill(t, dir, 1+rng.IntN(60))
		entries, votes = max(entries, e), max(votes, v)
		checkAfterKill(t, dir, entries, votes)
		if t.Failed() {
			t.Fatalf("after kill %d", kill+1)
		}
	}
	t.Logf("%d kills, %d entries and %d votes acknowledged, none lost", kills, entries, votes)
	if entries < uint64(kills) || votes == 0 {
		t.Errorf("only %d entries and %d votes: the child did no work", entries, votes)
	}
}

// runAndKill starts the child, kills it after lines acknowledgements (while it
// is already at its next write) and returns the newest it printed.
func runAndKill(t *testing.T, dir string, lines int) (entries, votes uint64) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	scan := bufio.NewScanner(out)
	for n := 0; scan.Scan(); n++ { // to the end: what it printed before it died counts too
		var kind string
		var number uint64
		if _, err := fmt.Sscan(scan.Text(), &kind, &number); err != nil {
			t.Fatalf("the child printed %q", scan.Text())
		}
		if kind == "vote" {
			votes = number
		} else {
			entries = number
		}
		if n == lines {
			must(t, child.Process.Kill())
		}
	}
	must(t, scan.Err())
	if err := child.Wait(); err == nil || child.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return entries, votes
}

func checkAfterKill(t *testing.T, dir string, entries, votes uint64) {
	t.Helper()
	s, err := Open(dir, quiet(Options{}))
	must(t, err)
	first, err := s.FirstIndex()
	must(t, err)
	last, err := s.LastIndex()
	must(t, err)
	if last < entries {
		t.Errorf("entry %d was acknowledged, the log ends at %d", entries, last)
	}
	for _, want := range killBatch(first, last) {
		wantEntry(t, s, want)
	}
	term, cand := readVote(t, s)
	if term < votes {
		t.Errorf("the vote of term %d was acknowledged, the stored one is of term %d", votes, term)
	}
	if term > 0 && cand != fmt.Sprintf("candidate of term %d", term) {
		t.Errorf("term %d beside %q", term, cand)
	}
	must(t, s.CheckAgainst(last, first-1))
	must(t, s.Close())
}
