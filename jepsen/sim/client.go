package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// client sends requests one after the other. One goroutine.
type client struct {
	run      *run
	id       int
	rng      *rand.Rand
	patience time.Duration // for one attempt, in virtual time
	serial   int           // counts the client's requests
	seen     uint64        // the highest index in an answer
	versions map[string]uint64
}

func newClient(r *run, id int) *client {
	return &client{run: r, id: id, rng: dice(r.options.Seed, uint64(100+id)), patience: r.options.slow(700 * time.Millisecond), versions: map[string]uint64{}}
}

// work sends requests, with pauses, until ctx ends.
func (c *client) work(ctx context.Context) {
	for ctx.Err() == nil {
		c.request(c.run.options.draw(c.rng))
		pause(ctx, time.Duration(c.rng.Int64N(int64(c.run.options.leisurely(50*time.Millisecond)))))
	}
}

// request sends the next request of a workload, as carefully or as carelessly as
// the dice say.
func (c *client) request(w Workload) {
	node := c.rng.IntN(len(c.run.sim.Replicas))
	if w == Lists {
		c.appendTo(listPath(c.rng.IntN(lists)), node)
		return
	}
	o := c.pick(w)
	switch again := c.rng.Float64(); {
	case model.IsAccess(o.Kind): // it has no idempotency key
		c.send(o, node)
	case o.Kind.Writes() && again < 0.12:
		c.sendTwice(o, node)
	case o.Kind.Writes() && again < 0.65:
		c.sendUntilKnown(o, node)
	default:
		c.send(o, node)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// send makes one attempt and records it.
func (c *client) send(o *history.Op, node int) {
	c.begin(o)
	c.settle(o, c.attempt(o, node, ""))
}

// sendUntilKnown sends o again, under its idempotency key and through other
// nodes, as long as its outcome is unknown, at most three times.
func (c *client) sendUntilKnown(o *history.Op, node int) {
	c.begin(o)
	key := fmt.Sprintf("c%d-%d", c.id, c.serial)
	var last *answer
	for i := range 3 {
		a := c.attempt(o, node+i, key)
		// "Not done" speaks of the attempt: an earlier one may have been.
		if last == nil || a.outcome == history.Done {
			last = a
		}
		if a.outcome != history.Unknown && (i == 0 || a.outcome == history.Done) {
			break
		}
	}
	c.settle(o, last)
}

// sendTwice sends o through two nodes at once under one idempotency key.
func (c *client) sendTwice(o *history.Op, node int) {
	c.begin(o)
	key := fmt.Sprintf("c%d-%d", c.id, c.serial)
	other := make(chan *answer, 1)
	second := *o
	go func() { other <- c.attempt(&second, node+1, key) }()
	a := c.attempt(o, node, key)
	b := <-other
	o.Sent += second.Sent
	if a.outcome == history.Done && b.outcome == history.Done && (a.number != b.number || a.index != b.index || a.id != b.id) {
		c.run.report("sent twice under one key, answered differently: %v\n\t%+v\n\t%+v", o, *a, *b)
	}
	c.settle(o, either(a, b))
}

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

func (c *client) begin(o *history.Op) {
	c.serial++
	o.Client, o.Called = c.id, c.run.now()
	o.Faulty = c.run.nemesis.disturbing()
}

// settle writes the end of o into the history.
func (c *client) settle(o *history.Op, a *answer) {
	o.Returned = c.run.now()
	o.LogTime = c.run.sim.Witness.Now()
	o.Faulty = o.Faulty || c.run.nemesis.disturbedSince(o.Called)
	o.Node, o.Life, o.Outcome, o.Reason = a.node, a.life, a.outcome, a.reason
	o.Number, o.Read, o.Index, o.Expires = a.number, a.read, a.index, a.expires
	c.seen = max(c.seen, a.index)
	switch {
	case o.Kind == history.Grant && a.outcome == history.Done:
		o.Key = a.id
		c.run.keepLease(granted{id: a.id, ttl: o.TTL})
	case a.number > 0 && o.Version == 0 && (o.Kind == history.Put || o.Kind == history.Get):
		c.versions[o.Key] = a.number
	}
	c.run.book.Add(o)
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

// attempt sends o to a node once.
func (c *client) attempt(o *history.Op, node int, key string) *answer {
	node %= len(c.run.sim.Replicas)
	a := &answer{node: node, outcome: history.NotDone}
	o.Sent++
	p := c.run.sim.Replicas[node].Process()
	if p == nil {
		return a
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.patience)
	defer cancel()
	ctx, leave, ok := p.Enter(ctx)
	if !ok {
		return a
	}
	a.life = p.Life
	done := c.run.nemesis.track(node)
	err := c.call(ctx, p, o, key, a)
	done()
	if !leave() { // whatever it was, the process that knew it is dead
		*a = answer{node: node, life: p.Life, outcome: history.NotDone}
		if o.Kind.Writes() {
			a.outcome = history.Unknown
		}
		return a
	}
	c.classify(p, o, a, err)
	return a
}

func (c *client) classify(p *testcluster.Process, o *history.Op, a *answer, err error) {
	var e *core.Error
	switch {
	case err == nil:
		a.outcome = history.Done
		return
	case !errors.As(err, &e):
		c.run.report("an error without a reason: %v: %v", o, err)
		return
	}
	a.reason = e.Reason
	if e.Reason == conclavev1.Reason_REASON_INTERNAL && p.Doomed() {
		// The node has halted, and its process would be ending: who is told anything, is
		// told that something went wrong.
		a.outcome = history.NotDone
		if o.Kind.Writes() && e.Outcome != conclavev1.Outcome_OUTCOME_NOT_DONE {
			a.outcome = history.Unknown
		}
		return
	}
	switch e.Reason {
	case conclavev1.Reason_REASON_DENIED, conclavev1.Reason_REASON_UNAUTHENTICATED, conclavev1.Reason_REASON_INVALID:
		if !model.IsAccess(o.Kind) {
			c.run.report("an answer that this request cannot have: %v: %v (%v)", o, e, e.Unwrap())
		}
		a.outcome = history.Refused
	case conclavev1.Reason_REASON_CAS_MISMATCH, conclavev1.Reason_REASON_NOT_FOUND, conclavev1.Reason_REASON_VERSION_DELETED,
		conclavev1.Reason_REASON_VERSION_DESTROYED, conclavev1.Reason_REASON_LEASE_EXPIRED:
		a.outcome, a.number = history.Refused, e.CurrentVersion
	case conclavev1.Reason_REASON_UNKNOWN_OUTCOME:
		a.outcome = history.Unknown
	case conclavev1.Reason_REASON_NO_LEADER, conclavev1.Reason_REASON_SEALED, conclavev1.Reason_REASON_OVERLOADED, conclavev1.Reason_REASON_DISK_FULL, conclavev1.Reason_REASON_CONFLICT:
		a.outcome = history.NotDone
	default:
		c.run.report("an answer that this request cannot have: %v: %v (%v)", o, e, e.Unwrap())
	}
	if (e.Outcome == conclavev1.Outcome_OUTCOME_UNKNOWN) != (a.outcome == history.Unknown) {
		c.run.report("reason and outcome disagree: %v: %v, %v", o, e.Reason, e.Outcome)
	}
}
