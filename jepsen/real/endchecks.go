package real

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// ceremonyCopies is how many copies of a share's value one unsealing may leave in
// memory: internal/testprocess measures it and tells why it is not none.
const ceremonyCopies = 8

// held is what a process has of what can leak.
type held struct {
	testprocess.Usage
	Goroutines int
}

// checkProcesses looks into processes that have seen all the trouble: once sealed,
// they keep no share; and they hold hardly more than ones that have just started, which
// come to the same state from their disks.
func (r *run) checkProcesses(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	old := make([]held, r.options.Nodes)
	for i := range old {
		r.checkAlive(i)
		if r.node(i).PID() == 0 {
			r.report("node %d does not run at the end", i)
			return
		}
		old[i] = r.heldBy(ctx, i)
	}
	var hands sync.WaitGroup
	for i := range old {
		hands.Go(func() { r.checkSealed(ctx, i) })
	}
	hands.Wait()
	if err := r.startAnew(ctx); err != nil {
		r.report("restarting at the end: %v", err)
		return
	}
	for i := range old {
		fresh := r.heldBy(ctx, i)
		compareHeld(r.report, i, old[i], fresh)
		r.note("node %d holds %+v after the run, %+v after a restart", i, old[i], fresh)
	}
	r.converge(ctx)
}

// compareHeld allows for what a process has for having lived: threads of the Go
// runtime never end, and tables stay open that were read once.
func compareHeld(report func(string, ...any), node int, old, fresh held) {
	for _, x := range []struct {
		what       string
		old, fresh int
		allowed    int
	}{
		{"descriptors", old.Descriptors, fresh.Descriptors, 100},
		{"threads", old.Threads, fresh.Threads, 60},
		{"goroutines", old.Goroutines, fresh.Goroutines, 150},
	} {
		if x.old > 2*x.fresh+x.allowed {
			report("node %d holds %d %s after the run, and %d after a restart", node, x.old, x.what, x.fresh)
		}
	}
}

// startAnew restarts all nodes in good order and waits until all take part.
func (r *run) startAnew(ctx context.Context) error {
	var hands sync.WaitGroup
	failed := make([]error, r.options.Nodes)
	for i, n := range r.cluster.Nodes {
		hands.Go(func() { failed[i] = errors.Join(n.Terminate(), n.Start()) })
	}
	hands.Wait()
	for i, n := range r.cluster.Nodes {
		hands.Go(func() { failed[i] = errors.Join(failed[i], n.Unseal(ctx)) })
	}
	hands.Wait()
	return errors.Join(append(failed, r.awaitVoters(ctx))...)
}

func (r *run) heldBy(ctx context.Context, node int) (h held) {
	var err error
	if h.Usage, err = r.node(node).Usage(); err == nil {
		h.Goroutines, err = r.goroutines(ctx, node)
	}
	if err != nil {
		r.report("looking at what node %d holds: %v", node, err)
	}
	return h
}

// goroutines asks a node for its number of them.
func (r *run) goroutines(ctx context.Context, node int) (n int, err error) {
	web, err := r.webClient()
	if err != nil {
		return 0, err
	}
	defer web.CloseIdleConnections()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.node(node).HTTP+"/v1/sys/metrics?format=prometheus", nil)
	if err != nil {
		return 0, err
	}
	q.Header.Set("X-Vault-Token", r.cluster.RootToken.Reveal())
	resp, err := web.Do(q)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if number, ok := strings.CutPrefix(line, "conclave_goroutines "); ok {
			return strconv.Atoi(strings.TrimSpace(number))
		}
	}
	return 0, fmt.Errorf("its metrics, answered with %d, do not tell the number of goroutines", resp.StatusCode)
}

// checkSealed seals a node and looks for what must be gone from its memory. Values
// and tokens that passed through lie in buffers which nobody can wipe: that is known,
// and only noted.
func (r *run) checkSealed(ctx context.Context, node int) {
	if err := r.askers[node].Operator.Seal(ctx); err != nil {
		r.report("sealing node %d at the end: %v", node, err)
		return
	}
	canaries := testprocess.NewCanaries()
	canaries.Add("a value", []byte(r.canary))
	canaries.Add("the root token", []byte(r.cluster.RootToken.Reveal()))
	for i, s := range r.cluster.Shares {
		value, err := testprocess.ShareValue(s.Reveal())
		if err != nil {
			r.report("share %d: %v", i+1, err)
			return
		}
		canaries.Add(shareName(i), value)
	}
	finds := map[string]int{}
	if err := r.node(node).SearchMemory(canaries, func(f testprocess.Find, _ string) { finds[f.Canary]++ }); err != nil {
		r.report("%v", err)
		return
	}
	shares := 0
	for i := range r.cluster.Shares {
		shares += finds[shareName(i)]
		if n := finds[shareName(i)]; n > ceremonyCopies*r.ceremonies(node) {
			r.report("the value of share %d is in the memory of node %d, which is sealed, %d times", i+1, node, n)
		}
	}
	if n := finds["a value"] + finds["the root token"]; n > 0 {
		r.note("node %d, sealed, still has %d copies of values and tokens in buffers, and %d of shares", node, n, shares)
	}
}

func shareName(i int) string { return fmt.Sprintf("share %d", i+1) }

// ceremonies is how often a node's process may have been unsealed.
func (r *run) ceremonies(node int) int {
	n := 1
	for _, f := range r.nemesis.done {
		if strings.HasSuffix(f.Name, "sealed") && len(f.Nodes) == 1 && f.Nodes[0] == node {
			n++
		}
	}
	return n
}
