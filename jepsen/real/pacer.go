package real

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// pacers is how many clients write as applications do: through a client that knows
// all nodes and repeats until it has an answer. How long they stand still is what an
// application would feel.
const pacers = 3

// paceFor bounds one of their writes with all its repetitions. It is longer than any
// fault but the longest.
const paceFor = 15 * time.Second

// pacer writes to secrets of its own, each for a while, and carries these writes.
type pacer struct {
	*workload.Client
	run    *run
	number int
	rng    *rand.Rand
	client *client.Client
}

// writesEach is how many writes a secret of a pacer has.
const writesEach = 90

func pacePath(pacer int, age int64) string { return fmt.Sprintf("pace/%d-%d", pacer, age) }

// pacedSoFar are all that were ever written to.
func (r *run) pacedSoFar() (paths []string) {
	for i := range pacers {
		for age := range r.paced[i].Load()/writesEach + 1 {
			paths = append(paths, pacePath(i, age))
		}
	}
	return paths
}

func (r *run) newPacer(number int) *pacer {
	addresses := r.cluster.Addresses()
	first := number % len(addresses)
	c, err := client.New(client.Config{Addresses: slices.Concat(addresses[first:], addresses[:first]), CAFile: r.cluster.CAFile(), Token: r.cluster.RootToken,
		Timeout: paceFor, AttemptTimeout: 3 * time.Second, RetryFor: paceFor, Dial: r.dialFrom(r.clientHost())})
	if err != nil {
		r.report("making a client: %v", err)
	}
	p := &pacer{run: r, number: number, rng: dice(r.options.Seed, uint64(50+number)), client: c}
	// Its numbers follow those of the clients and of those who read back.
	p.Client = r.world.NewClient(r.options.Clients+r.options.Nodes+number, p.rng, p)
	return p
}

// Nodes implements workload.Cluster: which node answers is the SDK's business.
func (p *pacer) Nodes() int { return 1 }

// Send implements workload.Cluster.
func (p *pacer) Send(o *history.Op, _ int, key string) *workload.Answer {
	o.Sent++
	// Which node answered is not known, so it is the answer of no life.
	a := &workload.Answer{Node: p.number % len(p.run.cluster.Nodes), Life: int(p.run.lifeSum.Add(1))}
	err := p.run.failure(o, call(context.Background(), p.client, o, key, a))
	if err := a.Conclude(o, err); err != nil {
		p.run.report("%v", err)
	}
	return a
}

// work writes, with pauses, until ctx ends.
func (p *pacer) work(ctx context.Context) {
	for ctx.Err() == nil {
		age := (p.run.paced[p.number].Add(1) - 1) / writesEach
		p.Put(pacePath(p.number, age), 0)
		pause(ctx, time.Duration(p.rng.Int64N(int64(20*time.Millisecond))))
	}
	if err := p.client.Close(); err != nil {
		p.run.report("closing a client: %v", err)
	}
}
