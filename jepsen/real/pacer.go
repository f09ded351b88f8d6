package real

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/jepsen/history"
)

// pacers is how many clients write as applications do: through a client that knows
// all nodes and repeats until it has an answer. How long they stand still is what an
// application would feel.
const pacers = 3

// paceFor bounds one of their writes with all its repetitions. It is longer than any
// fault but the longest.
const paceFor = 15 * time.Second

// pacer writes to secrets of its own, each for a while. One goroutine.
type pacer struct {
	worker *worker // for what it shares with others
	number int
	client *client.Client
}

func pacePath(pacer int, age int64) string { return fmt.Sprintf("pace/%d-%d", pacer, age) }

func (r *run) newPacer(number int) *pacer {
	addresses := r.cluster.Addresses()
	first := number % len(addresses)
	c, err := client.New(client.Config{Addresses: slices.Concat(addresses[first:], addresses[:first]), CAFile: r.cluster.CAFile(), Token: r.cluster.RootToken,
		Timeout: paceFor, AttemptTimeout: 3 * time.Second, RetryFor: paceFor, Dial: r.dialFrom(r.clientHost())})
	if err != nil {
		r.report("making a client: %v", err)
	}
	// Its workers' numbers follow those of the clients and of those who read back.
	w := &worker{run: r, id: r.options.Clients + r.options.Nodes + number, rng: dice(r.options.Seed, uint64(50+number)), versions: map[string]uint64{}}
	return &pacer{worker: w, number: number, client: c}
}

// work writes, with pauses, until ctx ends.
func (p *pacer) work(ctx context.Context) {
	w := p.worker
	for ctx.Err() == nil {
		age := (w.run.paced[p.number].Add(1) - 1) / requestsEach
		o := w.secretOp(history.Put, pacePath(p.number, age))
		w.begin(o)
		o.Sent = 1
		// Which node answered is not known, so it is the answer of no life.
		a := &answer{node: p.number % len(w.run.cluster.Nodes), life: int(w.run.lifeSum.Add(1))}
		err := w.call(context.Background(), p.client, o, fmt.Sprintf("p%d-%d", w.id, w.serial), a)
		w.classify(o, a, err)
		w.settle(o, a)
		pause(ctx, time.Duration(w.rng.Int64N(int64(20*time.Millisecond))))
	}
	if err := p.client.Close(); err != nil {
		w.run.report("closing a client: %v", err)
	}
}
