package real

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/internal/testprocess"
	"github.com/conclave-secrets/conclave/jepsen/fabric"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
)

// What is planted in a cluster that is well is found: a process that ended by
// itself, a secret in clear, a trace in a log, an audit log that was cut, an answer
// that no audit log tells of.
func TestPlantedFaultsAreFound(t *testing.T) {
	if err := fabric.Available(); err != nil {
		t.Skipf("SKIPPED, NOTHING WAS TESTED: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	binary, err := testprocess.Build(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(binary); err != nil || strings.Contains(string(raw), clockVariable) {
		t.Errorf("a binary without the tag knows of clocks that are wrong, %v", err)
	}
	o := Options{Binary: binary, Dir: t.TempDir(), Nodes: 3, Seed: 1}
	o.fill()
	r, err := begin(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}()
	r.began = time.Now()
	w := r.newWorker(0)
	defer w.close()
	for range 10 {
		w.Put("app/secret-0-0", 0)
	}
	r.mend(ctx)
	r.converge(ctx)
	r.checkCoverage(ctx)
	if r.found != nil {
		t.Fatalf("nothing was planted yet: %v", r.found)
	}
	finds := func(what string, look func()) {
		t.Helper()
		r.found = nil
		look()
		if len(r.found) == 0 || !strings.Contains(strings.Join(r.found, "\n"), what) {
			t.Errorf("not found: %s; but %v", what, r.found)
		}
	}
	finds("ended by itself", func() {
		if err := r.node(1).Signal(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		<-r.node(1).Exited()
		r.checkAlive(1)
	})
	finds("answers about app/secret-0-0", func() {
		r.world.Book.Add(&history.Op{Kind: history.Get, Key: "app/secret-0-0", Outcome: history.Done})
		r.checkCoverage(ctx)
	})
	finds("answers about auth/token/create", func() {
		r.world.Book.Add(&history.Op{Kind: model.MakeToken, Outcome: history.Done})
		r.checkCoverage(ctx)
	})
	finds("two states at index", func() {
		s, err := r.statusOf(ctx, 0)
		if err != nil {
			t.Error(err)
		}
		for i := range uint64(1000) { // wherever it stands by then
			r.hashes[s.AppliedIndex+i] = "another"
		}
		r.compareStates(ctx)
	})
	plant(t, filepath.Join(r.files(0), "stray"), "…"+r.canary+"…")
	finds("a value in plain text", func() { r.checkFiles(ctx) })
	plant(t, r.logs()[2], "panic: at the disco")
	finds("panic:", func() { r.checkLog(r.logs()[2]) })
	audit := filepath.Join(r.files(0), "audit", "audit.log")
	raw, err := os.ReadFile(audit)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(audit, append(raw[:len(raw)/2:len(raw)/2], raw[len(raw)/2+300:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	finds("does not verify", func() { r.checkAudit(ctx, r.files(0)) })
}

// plant adds text to a file.
func plant(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
