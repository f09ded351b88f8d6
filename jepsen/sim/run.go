package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/check"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/storage/raftlog"
)

// Options says how a run goes. Zero means the stated default.
type Options struct {
	Seed     uint64
	Nodes    int           // default: 3, and 5 for every tenth seed
	Clients  int           // default 6
	Duration time.Duration // of the faults, in virtual time; default 5 s

	// See testcluster.Options.
	Ledger func(core.Ledger) core.Ledger
	Crash  func(*raftlog.Memory)
	Logger *slog.Logger
}

func (o *Options) fill() {
	if o.Nodes == 0 {
		o.Nodes = 3
		if o.Seed%10 == 9 {
			o.Nodes = 5
		}
	}
	if o.Clients == 0 {
		o.Clients = 6
	}
	if o.Duration == 0 {
		o.Duration = 5 * time.Second
	}
}

// A Record is what is left of a run when its bubble has ended.
type Record struct {
	Seed   uint64
	Counts Counts
	ops    []*history.Op
	times  []fsm.LogTime // by index
	found  []string      // what was wrong already while it ran
}

// Run simulates one seed. Call it inside a synctest bubble, and Judge what it
// returns outside: the search takes real time.
func Run(o Options) *Record {
	o.fill()
	rec := &Record{Seed: o.Seed, Counts: Counts{Seeds: 1}}
	s, err := testcluster.New(testcluster.Options{
		Seed: o.Seed, Nodes: o.Nodes, SnapshotThreshold: 24, SnapshotInterval: 400 * time.Millisecond,
		Ledger: o.Ledger, Crash: o.Crash, Logger: o.Logger,
	})
	if err != nil {
		rec.found = append(rec.found, err.Error())
		return rec
	}
	r := &run{options: o, sim: s, began: time.Now(), book: &history.Log{}, nemesis: newNemesis(s, o)}
	r.play()
	if err := s.Close(); err != nil {
		r.report("closing: %v", err)
	}
	r.close(rec)
	return rec
}

// run is a simulation under way.
type run struct {
	options Options
	sim     *testcluster.Sim
	began   time.Time
	book    *history.Log
	nemesis *nemesis

	mu     sync.Mutex
	found  []string // guarded by mu
	leases []granted
}

func (r *run) report(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = append(r.found, fmt.Sprintf(format, args...))
}

func (r *run) now() time.Duration { return time.Since(r.began) }

// play lets clients and faults loose, ends the faults, and looks what is left.
func (r *run) play() {
	ctx, stop := context.WithTimeout(context.Background(), r.options.Duration)
	defer stop()
	var faults, clients sync.WaitGroup
	faults.Go(func() { r.nemesis.disturbNetwork(ctx) })
	faults.Go(func() { r.nemesis.disturbProcesses(ctx) })
	for i := range r.options.Clients {
		clients.Go(func() { newClient(r, i).work(ctx) })
	}
	clients.Wait()
	faults.Wait()
	if err := r.nemesis.calm(); err != nil {
		r.report("restoring the cluster: %v", err)
		return
	}
	r.lookBack()
	quiet, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.sim.Converge(quiet); err != nil {
		r.report("%v", err)
	}
}

// lookBack reads every secret and every lease once more, through every node:
// the checkers then miss whatever was acknowledged and is gone.
func (r *run) lookBack() {
	for i := range r.sim.Replicas {
		c := newClient(r, r.options.Clients+i)
		c.patience = 30 * time.Second
		for k := range secrets {
			o := c.secretOp(history.Get, secretPath(k))
			if c.send(o, i); o.Outcome != history.Done && o.Outcome != history.Refused {
				r.report("no answer although nothing was wrong any more: %v", o)
			}
		}
		for _, l := range r.knownLeases() {
			o := c.leaseOp(history.Lookup, l)
			if c.send(o, i); o.Outcome != history.Done && o.Outcome != history.Refused {
				r.report("no answer although nothing was wrong any more: %v", o)
			}
		}
	}
}

func (r *run) close(rec *Record) {
	w := r.sim.Witness
	rec.ops, rec.times = r.book.Ops(), w.Times()
	rec.found = append(r.found, w.Violations()...)
	for _, err := range r.sim.Halts() {
		rec.found = append(rec.found, err.Error())
	}
	c := &rec.Counts
	c.tally(rec.ops)
	c.Faults = r.nemesis.counts()
	c.PartitionsInFlight = r.nemesis.inFlight
	c.LeaderChanges = w.Terms() - 1
	c.Installs, c.Conflicts, c.Entries, c.Compared = w.Installs(), w.Conflicts(), w.Entries(), w.Compared()
	c.Repairs = r.sim.Repairs()
	c.Virtual = r.now()
}

// Judge runs the checkers over the record and returns what is wrong.
func (rec *Record) Judge() error {
	found := append(rec.found, check.All(rec.ops, rec.timeAt)...)
	var errs []error
	for _, f := range found {
		errs = append(errs, errors.New(f))
	}
	return errors.Join(errs...)
}

// Fingerprint is a digest of everything that the clients saw. Runs of one seed
// by one binary have the same, as far as a seed repeats (see README.md).
func (rec *Record) Fingerprint() string {
	h := sha256.New()
	for _, o := range rec.ops {
		fmt.Fprintln(h, o)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (rec *Record) timeAt(index uint64) (time.Time, bool) {
	if index >= uint64(len(rec.times)) {
		return time.Time{}, false
	}
	return rec.times[index].Time(), true
}

// dice returns the source of one use of the seed.
func dice(seed uint64, use uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, use*0x9e3779b97f4a7c15+1))
}
