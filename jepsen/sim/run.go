package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/bubble"
	"github.com/conclave-secrets/conclave/jepsen/check"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// A record is what is left of a run when its bubble has ended.
type record struct {
	counts Counts
	ops    []*history.Op
	times  []fsm.LogTime // by index
	found  []string      // what was wrong already while it ran
	faults []history.Fault
}

// A Result is a run and what was found in it. All of it can be encoded as JSON.
type Result struct {
	Run         *history.Run // its Violated has what package check cannot find in it
	Counts      Counts
	Fingerprint string // of everything that the clients saw; see README.md on replays
}

// Violations are all that is wrong: to find them takes a search.
func (r *Result) Violations() []string {
	return slices.Concat(r.Run.Violated, check.All(r.Run.Ops, r.Run.TimeAt))
}

// Run simulates one seed on the virtual time of in. What is wrong in it is no
// error: that is a run that could not be made. One at a time runs in a process.
func Run(in bubble.Runner, o Options) (*Result, error) {
	if err := o.fill(); err != nil {
		return nil, fmt.Errorf("simulating seed %d: %w", o.Seed, err)
	}
	var rec *record
	in(o.Seed, func() { rec = simulate(o) })
	if rec == nil {
		return nil, fmt.Errorf("simulating seed %d: the bubble ended before the run", o.Seed)
	}
	out := &Result{Run: rec.history(o), Counts: rec.counts, Fingerprint: rec.fingerprint()}
	// What package check finds, whoever reads the history finds again.
	out.Run.Violated = slices.Concat(rec.found, workload.Judge(rec.ops, rec.bounds))
	return out, nil
}

// simulate runs one seed. Call it inside a bubble, and judge what it returns
// outside: the search takes real time.
func simulate(o Options) *record {
	rec := &record{counts: Counts{Seeds: 1}}
	s, err := testcluster.New(testcluster.Options{
		Seed: o.Seed, Nodes: o.Nodes, SnapshotThreshold: 24, SnapshotInterval: o.slow(400 * time.Millisecond),
		Stretch: o.Stretch, Seams: o.seams, Logger: o.Logger,
	})
	if err != nil {
		rec.found = append(rec.found, err.Error())
		return rec
	}
	s.Witness.Canary(canary)
	r := &run{options: o, sim: s, began: time.Now(), nemesis: newNemesis(s, o)}
	r.world = workload.NewWorld(o.asked(), watch{r})
	r.play()
	if err := s.Close(); err != nil {
		r.report("closing: %v", err)
	}
	<-time.After(o.slow(10 * time.Second)) // what was planted may have goroutines that end by themselves
	r.close(rec)
	return rec
}

// run is a simulation under way.
type run struct {
	options Options
	sim     *testcluster.Sim
	began   time.Time
	world   *workload.World
	nemesis *nemesis

	mu    sync.Mutex
	found []string // guarded by mu
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
		clients.Go(func() { r.newClient(i, 700*time.Millisecond).Work(ctx) })
	}
	clients.Wait()
	faults.Wait()
	if err := r.nemesis.calm(); err != nil {
		r.report("restoring the cluster: %v", err)
		return
	}
	r.lookBack()
	quiet, cancel := context.WithTimeout(context.Background(), r.options.slow(time.Minute))
	defer cancel()
	if err := r.sim.Converge(quiet); err != nil {
		r.report("%v", err)
	}
}

// lookBack has everything read once more, through every node.
func (r *run) lookBack() {
	for i := range r.sim.Replicas {
		r.newClient(r.options.Clients+i, 30*time.Second).LookBack(i, nil, func() bool { return true })
	}
}

func (r *run) close(rec *record) {
	w := r.sim.Witness
	rec.ops, rec.times = r.world.Book.Ops(), w.Times()
	rec.found = append(r.found, r.sim.Violations()...)
	for _, err := range r.sim.Halts() {
		rec.found = append(rec.found, err.Error())
	}
	c := &rec.counts
	c.tally(rec.ops)
	c.Faults, c.Bit = r.nemesis.counts(), r.nemesis.bit
	c.PartitionsInFlight = r.nemesis.inFlight
	c.LeaderChanges = w.Terms() - 1
	c.Installs, c.Conflicts, c.Entries, c.Compared = w.Installs(), w.Conflicts(), w.Entries(), w.Compared()
	c.Repairs = r.sim.Repairs()
	for _, replica := range r.sim.Replicas {
		c.Records += replica.Trail.Records()
	}
	rec.faults = r.nemesis.faults
	c.Virtual = r.now()
}

func (rec *record) history(o Options) *history.Run {
	run := &history.Run{Header: history.Header{Kind: "sim", Seed: o.Seed, Nodes: o.Nodes, Clients: o.Clients, Length: o.Duration},
		Ops: rec.ops, Faults: rec.faults}
	for _, t := range rec.times {
		run.Times = append(run.Times, int64(t))
	}
	return run
}

// fingerprint is a digest of everything that the clients saw. Runs of one seed
// by one binary have the same, as far as a seed repeats (see README.md).
func (rec *record) fingerprint() string {
	h := sha256.New()
	for _, o := range rec.ops {
		fmt.Fprintln(h, o)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (rec *record) timeAt(index uint64) (time.Time, bool) {
	if index >= uint64(len(rec.times)) {
		return time.Time{}, false
	}
	return rec.times[index].Time(), true
}

// bounds tells the log time of an op's entry.
func (rec *record) bounds(o *history.Op) (least, most time.Time, applied bool) {
	t, ok := rec.timeAt(o.Index)
	return t, t, ok
}

// dice returns the source of one use of the seed.
func dice(seed uint64, use uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, use*0x9e3779b97f4a7c15+1))
}
