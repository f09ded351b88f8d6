package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/testprocess"
)

// idleMemory reads what the nodes hold before any load.
func idleMemory(_ context.Context, _ settings, cluster *testprocess.Cluster, r *report) error {
	for _, n := range cluster.Nodes {
		bytes, err := resident(n.PID())
		if err != nil {
			return err
		}
		r.add("idle memory, "+n.Name, float64(bytes)/(1<<20), "MiB", "resident")
	}
	return nil
}

// resident is the memory of a process that lies in RAM, in bytes.
func resident(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("the kernel does not tell the memory of a process")
}

// killWriters write while leaders die.
const killWriters = 4

// leaderKills kills the leader again and again under writers and measures the
// longest time between two acknowledged writes around each kill.
func leaderKills(ctx context.Context, s settings, cluster *testprocess.Cluster, r *report) (err error) {
	p, err := connect(cluster, killWriters)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	writing, stop := context.WithCancel(ctx)
	var acks acknowledged
	var group sync.WaitGroup
	for w := range killWriters {
		group.Go(func() {
			for n := 0; writing.Err() == nil; n++ {
				if put(writing, p[w], (w*1000+n)%keys) == nil {
					acks.note()
				}
			}
		})
	}
	defer func() { stop(); group.Wait() }()
	var gaps []time.Duration
	for range s.kills {
		gap, err := killOne(ctx, cluster, &acks)
		if err != nil {
			return err
		}
		gaps = append(gaps, gap)
	}
	slices.Sort(gaps)
	at := func(q float64) time.Duration { return gaps[min(len(gaps)-1, int(q*float64(len(gaps))))] }
	r.add("writers' gap after kill -9, max", at(1).Seconds(), "s",
		fmt.Sprintf("%d kills, p50 %.2f s, p90 %.2f s", len(gaps), at(.5).Seconds(), at(.9).Seconds())).atMost(1.5)
	return nil
}

// acknowledged remembers when writes were.
type acknowledged struct {
	mu   sync.Mutex
	last time.Time
	gap  time.Duration // longest since reset
}

func (a *acknowledged) note() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if !a.last.IsZero() {
		a.gap = max(a.gap, now.Sub(a.last))
	}
	a.last = now
}

func (a *acknowledged) reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gap = 0
}

func (a *acknowledged) longest() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(a.gap, time.Since(a.last))
}

func killOne(ctx context.Context, cluster *testprocess.Cluster, acks *acknowledged) (time.Duration, error) {
	leader, err := cluster.Leader(ctx)
	if err != nil {
		return 0, err
	}
	acks.reset()
	if err := leader.Kill(); err != nil {
		return 0, err
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return 0, err
	}
	gap := acks.longest()
	if err := leader.Start(); err != nil {
		return 0, err
	}
	if err := leader.Unseal(ctx); err != nil {
		return 0, err
	}
	return gap, pause(ctx, 500*time.Millisecond)
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// startUp restarts a node that holds many secrets and times it until it serves
// a linearizable read.
func startUp(ctx context.Context, s settings, cluster *testprocess.Cluster, r *report) error {
	began := time.Now()
	if err := fill(ctx, cluster, s.secrets); err != nil {
		return err
	}
	r.add(fmt.Sprintf("write %d secrets", s.secrets), time.Since(began).Seconds(), "s", "128 writers")
	for _, n := range cluster.Nodes {
		bytes, err := resident(n.PID())
		if err != nil {
			return err
		}
		r.add("memory after that, "+n.Name, float64(bytes)/(1<<20), "MiB", "resident")
	}
	n := cluster.Nodes[1]
	if err := n.Terminate(); err != nil {
		return err
	}
	if err := snapshotTime(n, s.secrets, r); err != nil {
		return err
	}
	began = time.Now()
	if err := n.Start(); err != nil {
		return err
	}
	if err := n.Unseal(ctx); err != nil {
		return err
	}
	c, err := n.Client()
	if err != nil {
		return err
	}
	_, err = c.Secrets.Get(ctx, path(0), client.GetOptions{})
	took := time.Since(began)
	if err := errors.Join(err, c.Close()); err != nil {
		return err
	}
	r.add(fmt.Sprintf("start-up with %d secrets", s.secrets), took.Seconds(), "s", "process start, unsealing, first linearizable read").atMost(2)
	return nil
}
