package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// valueSize is the size of the secrets that are written, in bytes.
const valueSize = 256

// keys is over how many secrets a load spreads.
const keys = 10_000

// A load is closed-loop: each client sends, waits for the answer, sends again.
type load struct {
	clients int
	length  time.Duration
	do      func(ctx context.Context, c *client.Client, worker, n int) error
}

type outcome struct {
	done   int
	failed int
	first  error
	took   time.Duration
	each   []time.Duration // sorted
	cpu    string
}

func (o outcome) perSecond() float64 { return float64(o.done) / o.took.Seconds() }

func (o outcome) percentile(p float64) time.Duration {
	if len(o.each) == 0 {
		return 0
	}
	return o.each[min(len(o.each)-1, int(p*float64(len(o.each))))]
}

func (o outcome) detail() string {
	s := fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, max %.2f ms", ms(o.percentile(.5)), ms(o.percentile(.99)), ms(o.percentile(1)))
	if o.cpu != "" {
		s += "; " + o.cpu
	}
	if o.failed > 0 {
		s += fmt.Sprintf("; %d failed, first: %v", o.failed, o.first)
	}
	return s
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// closedLoop has clients work until length has passed or ctx ends. What the end
// cuts off counts neither as done nor as failed.
func closedLoop(ctx context.Context, clients int, length time.Duration, do func(ctx context.Context, worker, n int) error) (out outcome) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var group sync.WaitGroup
	var failed atomic.Int64
	var once sync.Once
	all := make([][]time.Duration, clients)
	began := time.Now()
	for w := range clients {
		group.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				t := time.Now()
				err := do(ctx, w, n)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					failed.Add(1)
					once.Do(func() { out.first = err })
					continue
				}
				all[w] = append(all[w], time.Since(t))
			}
		})
	}
	group.Wait()
	out.took, out.failed = time.Since(began), int(failed.Load())
	out.each = slices.Concat(all...)
	slices.Sort(out.each)
	out.done = len(out.each)
	return out
}

// run drives the cluster. The clients share a few connections for each node,
// and spread over the nodes.
func (l load) run(ctx context.Context, cluster *testprocess.Cluster) (out outcome, err error) {
	pool, err := connect(cluster, min(l.clients, 2*len(cluster.Nodes)))
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, pool.close()) }()
	return metered(cluster, func() outcome {
		return closedLoop(ctx, l.clients, l.length, func(ctx context.Context, w, n int) error { return l.do(ctx, pool[w%len(pool)], w, n) })
	})
}

// metered adds to an outcome what it cost whom.
func metered(cluster *testprocess.Cluster, run func() outcome) (out outcome, err error) {
	before, err := readCPU(cluster)
	if err != nil {
		return out, err
	}
	out = run()
	after, err := readCPU(cluster)
	out.cpu = after.since(before, out.done)
	return out, err
}

type pool []*client.Client

// connect makes n clients, each of which prefers another node.
func connect(cluster *testprocess.Cluster, n int) (p pool, err error) {
	addresses := cluster.Addresses()
	for i := range n {
		k := i % len(addresses)
		c, err := client.New(client.Config{
			Addresses: slices.Concat(addresses[k:], addresses[:k]), CAFile: cluster.CAFile(), Token: cluster.RootToken,
		})
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p = append(p, c)
	}
	return p, nil
}

func (p pool) close() error {
	var errs []error
	for _, c := range p {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// path spreads secrets over a few hundred directories.
func path(n int) string { return fmt.Sprintf("bench/d%03d/s%05d", n%200, n) }

func put(ctx context.Context, c *client.Client, n int) error {
	return putWith(ctx, c, n, client.PutOptions{})
}

func putWith(ctx context.Context, c *client.Client, n int, o client.PutOptions) error {
	_, err := c.Secrets.Put(ctx, path(n), client.Data{"value": client.Binary(make([]byte, valueSize))}, o)
	return err
}

func puts(ctx context.Context, s settings, cluster *testprocess.Cluster, r *report) error {
	for _, clients := range s.clients {
		out, err := load{clients: clients, length: s.length, do: func(ctx context.Context, c *client.Client, w, n int) error {
			return put(ctx, c, (w*7919+n*31)%keys)
		}}.run(ctx, cluster)
		if err != nil {
			return err
		}
		row := r.add(fmt.Sprintf("put, %d clients", clients), out.perSecond(), "/s", out.detail())
		if clients == 256 {
			row.atLeast(10_000)
		}
	}
	return putsWithoutKeys(ctx, s, cluster, r)
}

// putsWithoutKeys shows what the idempotency key costs, which every write of
// the SDK carries unless it is told not to.
func putsWithoutKeys(ctx context.Context, s settings, cluster *testprocess.Cluster, r *report) error {
	bare := client.PutOptions{WriteOptions: client.WriteOptions{NoIdempotencyKey: true}}
	out, err := load{clients: 256, length: s.length, do: func(ctx context.Context, c *client.Client, w, n int) error {
		return putWith(ctx, c, (w*7919+n*31)%keys, bare)
	}}.run(ctx, cluster)
	if err != nil {
		return err
	}
	r.add("put without keys, 256 clients", out.perSecond(), "/s", out.detail())
	return nil
}

func gets(ctx context.Context, s settings, cluster *testprocess.Cluster, r *report) error {
	if err := fill(ctx, cluster, keys); err != nil {
		return err
	}
	for _, clients := range s.clients {
		out, err := load{clients: clients, length: s.length, do: func(ctx context.Context, c *client.Client, w, n int) error {
			_, err := c.Secrets.Get(ctx, path((w*7919+n*31)%keys), client.GetOptions{})
			return err
		}}.run(ctx, cluster)
		if err != nil {
			return err
		}
		row := r.add(fmt.Sprintf("linearizable get, %d clients", clients), out.perSecond(), "/s", out.detail())
		if clients == 256 {
			row.atLeast(18_000)
		}
	}
	return nil
}

// fill writes the secrets 0 to n-1.
func fill(ctx context.Context, cluster *testprocess.Cluster, n int) (err error) {
	p, err := connect(cluster, 6)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	const workers = 128
	var group sync.WaitGroup
	failures := make(chan error, workers)
	for w := range workers {
		group.Go(func() {
			for i := w; i < n; i += workers {
				if err := put(ctx, p[w%len(p)], i); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failures)
	return <-failures
}
