package real

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// worker is a client of the workload and carries its requests from the clients' host.
type worker struct {
	*workload.Client
	run      *run
	rng      *rand.Rand    // chooses between gRPC and HTTP, for requests without a key
	patience time.Duration // for one attempt
	nodes    []*client.Client
	web      *http.Client
}

func (r *run) newWorker(id int) *worker {
	w := &worker{run: r, rng: dice(r.options.Seed, uint64(400+id)), patience: r.patience}
	w.Client = r.world.NewClient(id, dice(r.options.Seed, uint64(100+id)), w)
	for _, n := range r.cluster.Nodes {
		// One node, one attempt: which node answered is part of the history, and what
		// is sent again is sent again here.
		c, err := client.New(client.Config{Addresses: []string{n.API}, CAFile: r.cluster.CAFile(), Token: r.cluster.RootToken,
			Timeout: -1, AttemptTimeout: time.Minute, RetryFor: -1, DialTimeout: time.Second, Dial: r.dialFrom(r.clientHost())})
		if err != nil {
			r.report("making a client: %v", err)
			continue
		}
		w.nodes = append(w.nodes, c)
	}
	web, err := r.webClient()
	if err != nil {
		r.report("making an HTTP client: %v", err)
	}
	w.web = web
	return w
}

func (w *worker) close() {
	for _, c := range w.nodes {
		if err := c.Close(); err != nil {
			w.run.report("closing a client: %v", err)
		}
	}
	w.web.CloseIdleConnections()
}

// work sends requests, with pauses, until ctx ends.
func (w *worker) work(ctx context.Context) {
	defer w.close()
	w.Work(ctx)
}

// Nodes implements workload.Cluster.
func (w *worker) Nodes() int { return len(w.nodes) }

// Send implements workload.Cluster. A write under a key is repeated by the SDK while
// its outcome is unknown and there is time.
func (w *worker) Send(o *history.Op, node int, key string) *workload.Answer {
	a := &workload.Answer{Node: node}
	o.Sent++
	ctx, cancel := context.WithTimeout(context.Background(), w.patience)
	defer cancel()
	before := w.run.lives[node].Load()
	err := w.carry(ctx, o, node, key, a)
	a.Life = w.run.lifeOf(node, before)
	if err := a.Conclude(o, err); err != nil {
		w.run.report("%v", err)
	}
	return a
}

// carry sends o over gRPC, or over HTTP at times if HTTP can ask for it, and puts what
// comes back into a.
func (w *worker) carry(ctx context.Context, o *history.Op, node int, key string, a *workload.Answer) error {
	switch {
	case model.IsAccess(o.Kind):
		return w.run.world.ByPath(o, a, func(q workload.Request) (*workload.Reply, error) {
			if w.rng.IntN(2) == 0 {
				return w.serveWeb(ctx, node, q)
			}
			return w.servePath(ctx, o, node, q)
		})
	case key == "" && speaksHTTP(o) && w.rng.IntN(10) < 3:
		return w.callWeb(ctx, o, node, a)
	}
	return w.run.failure(o, call(ctx, w.nodes[node], o, key, a))
}

// failure puts an error of the SDK into the workload's words. What is none stays as it is.
func (r *run) failure(o *history.Op, err error) error {
	e := client.AsError(err)
	if e == nil {
		return err
	}
	f := &workload.Failure{Reason: reasonOf(e.Reason), Unknown: e.Outcome == client.OutcomeUnknown, Current: e.CurrentVersion, Cause: e}
	if f.Excused = e.Reason == client.ReasonInternal && strings.Contains(e.Message, "audit log cannot be written"); f.Excused && !r.disksBad(o.Called) {
		r.stalled.Add(1)
	}
	if o.Kind == model.UseLimited && f.Reason == 0 {
		// The SDK says that nothing was done of a read, but this one uses something up.
		f.Unknown = !neverSent(e)
	}
	return f
}

// lifeOf is which process of a node answered what was asked in the life that it
// had before: a number that nobody else has if that is not certain.
func (r *run) lifeOf(node int, before int64) int {
	if now := r.lives[node].Load(); now == before {
		return int(now)
	}
	return int(r.lifeSum.Add(1))
}

// watch is what the workload knows of a run.
type watch struct{ *run }

// Now implements workload.Watch.
func (w watch) Now() time.Duration { return w.now() }

// LogTime implements workload.Watch.
func (w watch) LogTime() time.Time { return w.latestLogTime() }

// Disturbed implements workload.Watch.
func (w watch) Disturbed(since time.Duration) bool { return w.nemesis.disturbed(since) }

// Report implements workload.Watch.
func (w watch) Report(format string, args ...any) { w.report(format, args...) }
