package real

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/jepsen/history"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// worker sends requests one after the other, from the clients' host, each to any
// node. One goroutine.
type worker struct {
	run      *run
	id       int
	rng      *rand.Rand
	patience time.Duration // for one attempt
	nodes    []*client.Client
	web      *http.Client
	serial   int    // counts its requests
	seen     uint64 // the highest index in an answer
	versions map[string]uint64
}

func (r *run) newWorker(id int) *worker {
	w := &worker{run: r, id: id, rng: dice(r.options.Seed, uint64(100+id)), patience: r.patience, versions: map[string]uint64{}}
	for _, n := range r.cluster.Nodes {
		// One node, one attempt: which node answered is part of the history, and what
		// is sent again is sent again here. A write under a key is repeated by the
		// client while its outcome is unknown and there is time.
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
	for ctx.Err() == nil {
		o := w.pick()
		node := w.rng.IntN(len(w.nodes))
		switch again := w.rng.Float64(); {
		case o.Kind.Writes() && again < 0.1:
			w.sendTwice(o, node)
		case o.Kind.Writes() && again < 0.6:
			w.sendUntilKnown(o, node)
		default:
			w.send(o, node)
		}
		pause(ctx, time.Duration(w.rng.Int64N(int64(25*time.Millisecond))))
	}
}

// send makes one attempt and records it: over HTTP at times, if HTTP can ask for it.
func (w *worker) send(o *history.Op, node int) {
	overHTTP := speaksHTTP(o) && w.rng.IntN(3) == 0
	w.begin(o)
	if overHTTP {
		w.settle(o, w.attemptHTTP(o, node))
		return
	}
	w.settle(o, w.attempt(o, node, ""))
}

// sendUntilKnown sends o again, under its idempotency key and through other
// nodes, as long as its outcome is unknown, at most three times.
func (w *worker) sendUntilKnown(o *history.Op, node int) {
	w.begin(o)
	key := w.key()
	var last *answer
	for i := range 3 {
		a := w.attempt(o, node+i, key)
		// "Not done" speaks of the attempt: an earlier one may have been.
		if last == nil || a.outcome == history.Done {
			last = a
		}
		if a.outcome != history.Unknown && (i == 0 || a.outcome == history.Done) {
			break
		}
	}
	w.settle(o, last)
}

// sendTwice sends o through two nodes at once under one idempotency key.
func (w *worker) sendTwice(o *history.Op, node int) {
	w.begin(o)
	key := w.key()
	var a, b *answer
	second := *o
	var both sync.WaitGroup
	both.Go(func() { b = w.attempt(&second, node+1, key) })
	a = w.attempt(o, node, key)
	both.Wait()
	o.Sent += second.Sent
	if a.outcome == history.Done && b.outcome == history.Done && (a.number != b.number || a.index != b.index || a.id != b.id) {
		w.run.report("sent twice under one key, answered differently: %v\n\t%+v\n\t%+v", o, *a, *b)
	}
	w.settle(o, either(a, b))
}

func (w *worker) key() string { return fmt.Sprintf("c%d-%d", w.id, w.serial) }

// either is the outcome of two attempts of which at most one took effect.
func either(a, b *answer) *answer {
	for _, want := range []history.Outcome{history.Done, history.Unknown} {
		for _, x := range []*answer{a, b} {
			if x.outcome == want {
				return x
			}
		}
	}
	if a.outcome == history.NotDone {
		return b
	}
	return a
}

func (w *worker) begin(o *history.Op) {
	w.serial++
	o.Client, o.Called = w.id, w.run.now()
}

// settle writes the end of o into the history.
func (w *worker) settle(o *history.Op, a *answer) {
	o.Returned = w.run.now()
	o.LogTime = w.run.latestLogTime()
	o.Faulty = w.run.nemesis.disturbed(o.Called)
	o.Node, o.Life, o.Outcome, o.Reason = a.node, a.life, a.outcome, a.reason
	o.Number, o.Read, o.Index, o.Expires = a.number, a.read, a.index, a.expires
	w.seen = max(w.seen, a.index)
	switch {
	case o.Kind == history.Grant && a.outcome == history.Done:
		o.Key = a.id
		w.run.keepLease(granted{id: a.id, ttl: o.TTL})
	case a.number > 0 && o.Version == 0 && (o.Kind == history.Put || o.Kind == history.Get):
		w.versions[o.Key] = a.number
	}
	w.run.book.Add(o)
}

// answer is the end of one attempt.
type answer struct {
	node, life int
	outcome    history.Outcome
	reason     conclavev1.Reason
	number     uint64
	read       string
	index      uint64
	id         string
	expires    time.Time
}

// lifeOf is which process of a node answered what was asked in the life that it
// had before: a number that nobody else has if that is not certain.
func (r *run) lifeOf(node int, before int64) int {
	if now := r.lives[node].Load(); now == before {
		return int(now)
	}
	return int(r.lifeSum.Add(1))
}

// attempt sends o to a node over gRPC.
func (w *worker) attempt(o *history.Op, node int, key string) *answer {
	node %= len(w.nodes)
	a := &answer{node: node}
	o.Sent++
	ctx, cancel := context.WithTimeout(context.Background(), w.patience)
	defer cancel()
	before := w.run.lives[node].Load()
	err := w.call(ctx, w.nodes[node], o, key, a)
	a.life = w.run.lifeOf(node, before)
	w.classify(o, a, err)
	return a
}

func (w *worker) classify(o *history.Op, a *answer, err error) {
	e := client.AsError(err)
	switch {
	case err == nil:
		a.outcome = history.Done
		return
	case e == nil:
		w.run.report("an error without a reason: %v: %v", o, err)
		a.outcome = history.Unknown
		return
	}
	a.reason = reasonOf(e.Reason)
	switch e.Reason {
	case client.ReasonCASMismatch, client.ReasonNotFound, client.ReasonVersionDeleted, client.ReasonVersionDestroyed, client.ReasonLeaseExpired:
		a.outcome, a.number = history.Refused, e.CurrentVersion
	case client.ReasonNoLeader, client.ReasonSealed, client.ReasonOverloaded, client.ReasonConflict, client.ReasonIndexNotReached,
		client.ReasonUnavailable, client.ReasonEnded, client.ReasonUnknownOutcome:
		a.outcome = history.NotDone
	default:
		w.run.report("an answer that this request cannot have: %v: %v", o, e)
		a.outcome = history.NotDone
	}
	if e.Outcome == client.OutcomeUnknown {
		// Also after a plain refusal: an earlier attempt of the client may have been done.
		a.outcome, a.number = history.Unknown, 0
	}
}
