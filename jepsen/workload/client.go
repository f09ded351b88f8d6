package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
)

// A Cluster carries the requests of one client. Two may be under way at once.
type Cluster interface {
	// Nodes is how many nodes there are to ask.
	Nodes() int
	// Send sends o to a node once, for as long as its patience lasts, under an
	// idempotency key unless that is "". It counts itself in o.Sent.
	Send(o *history.Op, node int, key string) *Answer
}

// A Client sends requests one after the other, each to any node. One goroutine.
type Client struct {
	world    *World
	id       int
	rng      *rand.Rand
	cluster  Cluster
	serial   int               // counts its requests
	seen     uint64            // the highest index in an answer
	versions map[string]uint64 // the newest that it knows of, by secret
}

// NewClient returns a client. No other of this world has its id.
func (w *World) NewClient(id int, rng *rand.Rand, c Cluster) *Client {
	return &Client{world: w, id: id, rng: rng, cluster: c, versions: map[string]uint64{}}
}

// Work sends requests, with pauses, until ctx ends.
func (c *Client) Work(ctx context.Context) {
	for ctx.Err() == nil {
		c.request(c.world.draw(c.rng))
		Pause(ctx, time.Duration(c.rng.Int64N(int64(c.world.options.Pause))))
	}
}

// Pause waits for d or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Put writes a new value to a secret, once, under an idempotency key.
func (c *Client) Put(path string, node int) {
	o := c.secretOp(history.Put, path)
	c.begin(o)
	c.settle(o, c.attempt(o, node, c.key()))
}

// request sends the next request of a workload, as carefully or as carelessly as
// the dice say.
func (c *Client) request(name Name) {
	node := c.rng.IntN(c.cluster.Nodes())
	if name == Lists {
		c.appendTo(c.listNow(), node)
		return
	}
	o := c.pick(name)
	switch again := c.rng.Float64(); {
	case model.IsAccess(o.Kind), name == Transfers: // it has no idempotency key
		c.send(o, node)
	case o.Kind.Writes() && again < 0.12:
		c.sendTwice(o, node)
	case o.Kind.Writes() && again < 0.65:
		c.sendUntilKnown(o, node)
	default:
		c.send(o, node)
	}
}

// pick chooses the next request of a workload.
func (c *Client) pick(name Name) *history.Op {
	switch name {
	case Leases:
		return c.pickLease()
	case Tokens:
		return c.pickTokens()
	case Policies:
		return c.pickPolicies()
	case Wrapping:
		return c.pickWrapping()
	case Transfers:
		return c.pickTransfers()
	}
	return c.pickSecrets()
}

// send makes one attempt and records it.
func (c *Client) send(o *history.Op, node int) {
	c.begin(o)
	c.settle(o, c.attempt(o, node, ""))
}

// sendUntilKnown sends o again, under its idempotency key and through other
// nodes, as long as its outcome is unknown, at most three times.
func (c *Client) sendUntilKnown(o *history.Op, node int) {
	c.begin(o)
	key := c.key()
	var last *Answer
	for i := range 3 {
		a := c.attempt(o, node+i, key)
		// "Not done" speaks of the attempt: an earlier one may have been.
		if last == nil || a.Outcome == history.Done {
			last = a
		}
		if a.Outcome != history.Unknown && (i == 0 || a.Outcome == history.Done) {
			break
		}
	}
	c.settle(o, last)
}

// sendTwice sends o through two nodes at once under one idempotency key.
func (c *Client) sendTwice(o *history.Op, node int) {
	c.begin(o)
	key := c.key()
	var a, b *Answer
	second := *o
	var other sync.WaitGroup
	other.Go(func() { b = c.attempt(&second, node+1, key) })
	a = c.attempt(o, node, key)
	other.Wait()
	o.Sent += second.Sent
	if a.differs(b) {
		c.world.watch.Report("sent twice under one key, answered differently: %v\n\t%+v\n\t%+v", o, *a, *b)
	}
	c.settle(o, either(a, b))
}

func (c *Client) attempt(o *history.Op, node int, key string) *Answer {
	return c.cluster.Send(o, node%c.cluster.Nodes(), key)
}

// key is the idempotency key of the request that was begun last.
func (c *Client) key() string { return fmt.Sprintf("c%d-%d", c.id, c.serial) }

func (c *Client) begin(o *history.Op) {
	c.serial++
	o.Client, o.Called = c.id, c.world.watch.Now()
}

// settle writes the end of o into the history.
func (c *Client) settle(o *history.Op, a *Answer) {
	o.Returned = c.world.watch.Now()
	o.LogTime = c.world.watch.LogTime()
	o.Faulty = c.world.watch.Disturbed(o.Called)
	o.Node, o.Life, o.Outcome, o.Reason = a.Node, a.Life, a.Outcome, a.Reason
	o.Number, o.Read, o.Index, o.Expires = a.Number, a.Read, a.Index, a.Expires
	c.seen = max(c.seen, a.Index)
	switch {
	case o.Kind == history.Grant && a.Outcome == history.Done:
		o.Key = a.ID
		c.world.keepLease(granted{id: a.ID, ttl: o.TTL})
	case a.Number > 0 && o.Version == 0 && (o.Kind == history.Put || o.Kind == history.Get):
		c.versions[o.Key] = a.Number
	}
	c.world.Book.Add(o)
}
