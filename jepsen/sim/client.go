package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	"github.com/conclave-secrets/conclave/jepsen/workload"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// courier carries the requests of a client to the simulated nodes.
type courier struct {
	run      *run
	patience time.Duration // for one attempt, in virtual time
}

func (r *run) newClient(id int, patience time.Duration) *workload.Client {
	return r.world.NewClient(id, dice(r.options.Seed, uint64(100+id)), &courier{run: r, patience: r.options.slow(patience)})
}

func pause(ctx context.Context, d time.Duration) { workload.Pause(ctx, d) }

// Nodes implements workload.Cluster.
func (c *courier) Nodes() int { return len(c.run.sim.Replicas) }

// Send implements workload.Cluster.
func (c *courier) Send(o *history.Op, node int, key string) *workload.Answer {
	a := &workload.Answer{Node: node, Outcome: history.NotDone}
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
	a.Life = p.Life
	done := c.run.nemesis.track(node)
	err := c.call(ctx, p, o, key, a)
	done()
	if !leave() { // whatever it was, the process that knew it is dead
		*a = workload.Answer{Node: node, Life: p.Life}
		err = &workload.Failure{Unknown: true}
	}
	if err := a.Conclude(o, err); err != nil {
		c.run.report("%v", err)
	}
	return a
}

// failure puts an error of core into the workload's words. What is none stays as it is.
func (c *courier) failure(p *testcluster.Process, o *history.Op, err error) error {
	var e *core.Error
	if !errors.As(err, &e) {
		return err
	}
	f := &workload.Failure{Reason: e.Reason, Unknown: e.Outcome != conclavev1.Outcome_OUTCOME_NOT_DONE, Current: e.CurrentVersion, Cause: fmt.Errorf("%w (%v)", e, e.Unwrap())}
	if e.Reason == conclavev1.Reason_REASON_INTERNAL && p.Doomed() {
		// The node has halted, and its process would be ending: who is told anything, is
		// told that something went wrong.
		f.Excused = true
		return f
	}
	if f.Unknown != (e.Reason == conclavev1.Reason_REASON_UNKNOWN_OUTCOME) {
		c.run.report("reason and outcome disagree: %v: %v, %v", o, e.Reason, e.Outcome)
	}
	return f
}

// call sends o to p and puts what comes back into a.
func (c *courier) call(ctx context.Context, p *testcluster.Process, o *history.Op, key string, a *workload.Answer) error {
	switch o.Kind {
	case history.Put, history.Get, history.Delete, history.Undelete, history.Destroy:
		return c.failure(p, o, c.callSecrets(ctx, p, o, key, a))
	}
	if o.Kind == history.Transfer || o.Kind == history.Balances {
		return c.callBank(ctx, p, o, a)
	}
	if !model.IsAccess(o.Kind) {
		return c.failure(p, o, c.callLeases(ctx, p, o, key, a))
	}
	return c.run.world.ByPath(o, a, func(q workload.Request) (*workload.Reply, error) {
		reply, err := c.serve(ctx, p, o, q)
		return reply, c.failure(p, o, err)
	})
}

// watch is what the workload knows of a run.
type watch struct{ *run }

// Now implements workload.Watch.
func (w watch) Now() time.Duration { return w.now() }

// LogTime implements workload.Watch.
func (w watch) LogTime() time.Time { return w.sim.Witness.Now() }

// Disturbed implements workload.Watch.
func (w watch) Disturbed(since time.Duration) bool { return w.nemesis.disturbedSince(since) }

// Report implements workload.Watch.
func (w watch) Report(format string, args ...any) { w.report(format, args...) }
