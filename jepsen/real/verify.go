package real

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// lookBack reads every secret and the newest leases once more, through every node:
// the checkers then miss whatever was acknowledged and is gone.
func (r *run) lookBack(ctx context.Context) {
	alive, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if r.awaitLeader(alive) < 0 {
		r.report("nothing is read back from a cluster that has no leader")
		return
	}
	var hands sync.WaitGroup
	for i := range r.options.Nodes {
		hands.Go(func() {
			w := r.newWorker(r.options.Clients + i)
			defer w.close()
			w.patience = 30 * time.Second
			w.LookBack(i, r.pacedSoFar(), func() bool { return ctx.Err() == nil })
		})
	}
	hands.Wait()
}

// compareStates asks every node for its state hash: at one index there is one state.
// It tells whether all stood at the same.
func (r *run) compareStates(ctx context.Context) (equal bool) {
	type state struct {
		index uint64
		hash  string
	}
	states := map[state]bool{}
	for i := range r.options.Nodes {
		s, err := r.statusOf(ctx, i)
		if err != nil || s.Sealed {
			states[state{}] = true
			continue
		}
		at := state{s.AppliedIndex, s.StateHash}
		states[at] = true
		r.mu.Lock()
		before, known := r.hashes[at.index]
		r.hashes[at.index] = at.hash
		r.mu.Unlock()
		if known && before != at.hash {
			r.report("two states at index %d: %s, and %s on node %d", at.index, before, at.hash, i)
		}
	}
	return len(states) == 1 && !states[state{}]
}

// converge waits until all nodes stand at the same index with the same state.
func (r *run) converge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		if r.compareStates(ctx) {
			return
		}
		pause(ctx, 100*time.Millisecond)
	}
	r.report("the nodes do not come to the same state although nothing is wrong any more")
}

// checkFiles looks at all that the nodes left: logs without traces of a crash, audit
// logs whose chain holds, and no secret in clear anywhere.
func (r *run) checkFiles(ctx context.Context) {
	for _, path := range r.logs() {
		r.checkLog(path)
	}
	for _, dir := range r.allFiles() {
		r.checkAudit(ctx, dir)
	}
	canaries := testprocess.NewCanaries()
	canaries.Add("a value", []byte(r.canary))
	canaries.Add("the root token", []byte(r.cluster.RootToken.Reveal()))
	for i, s := range r.cluster.Shares {
		canaries.Add(fmt.Sprintf("share %d", i+1), []byte(s.Reveal()))
	}
	searched := 0
	err := filepath.WalkDir(r.options.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && r.isMount(path) {
			return fs.SkipDir // the backing store is searched
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		found, err := canaries.SearchFile(path)
		for _, f := range found {
			r.report("in clear in %s: %v", path, f)
		}
		searched++
		return err
	})
	if err != nil || searched == 0 {
		r.report("searching %d files for secrets in clear: %v", searched, err)
	}
}

// traces are what a Go program prints when it breaks.
var traces = []string{"panic:", "panicked", "goroutine ", "runtime error", "fatal error:", "DATA RACE"}

func (r *run) checkLog(path string) {
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) == 0 {
		r.report("a node has no log: %v", errors.Join(err, fmt.Errorf("%s holds %d bytes", path, len(raw))))
		return
	}
	for _, trace := range traces {
		if at := strings.Index(string(raw), trace); at >= 0 {
			r.report("%s holds %q: …%s…", path, trace, raw[max(0, at-200):min(len(raw), at+500)])
			return
		}
	}
}

// checkAudit has the binary verify the audit log of a data directory.
func (r *run) checkAudit(ctx context.Context, dir string) {
	file := filepath.Join(dir, "audit", "audit.log")
	out, err := exec.CommandContext(ctx, r.options.Binary, "audit", "verify", file).CombinedOutput()
	if err != nil && r.badUntil.Load() > 0 && strings.Contains(string(out), `break: the node found "audit.log": "i/o error"`) {
		r.note("a node could not read the audit log %s when it started, and says so in it", file)
		return
	}
	if err != nil {
		r.report("the audit log %s does not verify: %v\n%s", file, err, out)
	}
}
