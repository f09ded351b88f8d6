package real

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/fabric"
	"github.com/conclave-secrets/conclave/jepsen/history"
)

// A fault is something that goes wrong for a while.
type fault struct {
	name  string
	kind  kind
	least int // nodes that it needs
	do    func(b *blow) error
}

// kind tells which faults may be at work together.
type kind int

const (
	network kind = iota // beside one of any kind but solitary
	process             // beside one of the network
	alone               // it needs a cluster that is well
	clock               // like process, and needs a binary whose clock can be set
	disks               // like process, and needs disks that can be broken
	damage              // like alone, and needs disks that can be broken
)

// faults are all that Run knows.
var faults = slices.Concat(networkFaults, processFaults, rotateFaults, clockFaults, diskFaults, rotFaults, memberFaults)

// FaultNames are the names for Options.Faults.
func FaultNames() (names []string) {
	for _, f := range faults {
		names = append(names, f.name)
	}
	return names
}

// nemesis does one fault after the other, or two at once. What it chooses is of
// the seed; who leads at the time is not.
type nemesis struct {
	run     *run
	rng     *rand.Rand
	offered []fault

	mu      sync.Mutex
	active  int           // guarded by mu; rounds that have not been mended
	ended   time.Duration // guarded by mu; when the last one was
	done    []history.Fault
	leaders []history.Fault // of done, kills of a leader
}

// newNemesis refuses names that nobody knows.
func newNemesis(r *run) (*nemesis, error) {
	for _, name := range r.options.Faults {
		if !slices.Contains(FaultNames(), name) {
			return nil, fmt.Errorf("no fault is called %q; there are: %s", name, strings.Join(FaultNames(), ", "))
		}
	}
	return &nemesis{run: r, rng: dice(r.options.Seed, 1)}, nil
}

// choose settles which faults are possible with this cluster and this binary.
func (n *nemesis) choose() error {
	var not []string
	for _, f := range faults {
		wanted := n.run.options.Faults
		switch {
		case wanted != nil && !slices.Contains(wanted, f.name):
		case f.least > n.run.options.Nodes:
			not = append(not, fmt.Sprintf("%s needs %d nodes", f.name, f.least))
		case f.kind == clock && !n.run.clockObeys():
			not = append(not, fmt.Sprintf("%s needs a binary built with -tags %s", f.name, BuildTag))
		case (f.kind == disks || f.kind == damage) && n.run.noDisks != nil:
			not = append(not, fmt.Sprintf("%s needs FUSE: %v", f.name, n.run.noDisks))
		default:
			n.offered = append(n.offered, f)
		}
	}
	if not != nil && n.run.options.Faults != nil || n.offered == nil {
		return fmt.Errorf("faults that are not possible here: %s", strings.Join(not, "; "))
	}
	for _, s := range not {
		n.run.note("left out: %s", s)
		n.run.options.Progress("*** LEFT OUT: " + s + " ***")
	}
	return nil
}

// dice returns the source of one use of the seed.
func dice(seed uint64, use uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, use*0x9e3779b97f4a7c15+1))
}

// work goes through the faults in ever new orders until ctx ends, mends
// everything after each, and gives the cluster time to rest.
func (n *nemesis) work(ctx context.Context) {
	var coming []fault
	for serial := uint64(0); ; serial++ {
		pause(ctx, 700*time.Millisecond+time.Duration(n.rng.Int64N(int64(time.Second))))
		if ctx.Err() != nil {
			return
		}
		if len(coming) == 0 {
			coming = slices.Clone(n.offered)
			n.rng.Shuffle(len(coming), func(i, j int) { coming[i], coming[j] = coming[j], coming[i] })
		}
		together := coming[:1]
		if len(coming) > 1 && compatible(coming[0], coming[1]) && n.rng.IntN(2) == 0 {
			together = coming[:2]
		}
		coming = coming[len(together):]
		n.round(ctx, together, serial)
	}
}

// solitary faults are alone at work.
func (f fault) solitary() bool { return f.kind == alone || f.kind == damage }

func compatible(a, b fault) bool {
	return !a.solitary() && !b.solitary() && (a.kind == network || b.kind == network)
}

// round does faults together. What was begun is ended in good order, also after ctx.
func (n *nemesis) round(ctx context.Context, together []fault, serial uint64) {
	n.change(1)
	var hands sync.WaitGroup
	for i, f := range together {
		b := &blow{nemesis: n, fault: f, ctx: ctx, rng: dice(n.run.options.Seed, 1000+2*serial+uint64(i))}
		hands.Go(b.strike)
	}
	hands.Wait()
	n.run.fabric.Heal()
	n.run.healDisks()
	mending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	n.run.mend(mending)
	pause(mending, 300*time.Millisecond) // calls that began in the trouble may still be waiting
	n.run.noteHealed()
	n.change(-1)
}

func (n *nemesis) change(by int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.active += by
	n.ended = n.run.now()
}

// disturbed tells whether something was wrong at some time since t.
func (n *nemesis) disturbed(t time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.active > 0 || n.ended > 0 && t < n.ended
}

// A blow is one fault at work.
type blow struct {
	*nemesis
	fault
	ctx      context.Context
	rng      *rand.Rand
	nodes    []int
	proofs   []history.Proof
	isLeader bool // it killed a leader
	imposed  []*fabric.Fault
}

// strike does the fault and records it.
func (b *blow) strike() {
	began := b.run.now()
	err := b.do(b)
	for _, x := range b.imposed {
		x.Lift()
	}
	if err != nil {
		b.run.report("the fault %q could not be done: %v", b.name, err)
	}
	x := history.Fault{Name: b.name, Nodes: b.nodes, Began: began, Ended: b.run.now(), Proofs: b.proofs}
	b.run.options.Progress(x.String())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = append(b.done, x)
	if b.isLeader {
		b.leaders = append(b.leaders, x)
	}
}

// hold waits while the fault is at work.
func (b *blow) hold() { b.holdFor(time.Second, 3*time.Second) }

func (b *blow) holdFor(least, most time.Duration) {
	pause(context.WithoutCancel(b.ctx), least+time.Duration(b.rng.Int64N(int64(most-least))))
}

// prove adds to what the fault is known to have done.
func (b *blow) prove(what string, count int64) {
	for i := range b.proofs {
		if b.proofs[i].What == what {
			b.proofs[i].Count += count
			return
		}
	}
	b.proofs = append(b.proofs, history.Proof{What: what, Count: count})
}

// anyNode draws a node.
func (b *blow) anyNode() int { return b.rng.IntN(b.run.options.Nodes) }

// leaderNow is the leader, or any node when there is none.
func (b *blow) leaderNow() int {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 3*time.Second)
	defer cancel()
	if node := b.run.awaitLeader(ctx); node >= 0 {
		return node
	}
	return b.anyNode()
}

// everyNode is all of them, in an order of the seed.
func (b *blow) everyNode() []int { return b.rng.Perm(b.run.options.Nodes) }

// mend brings every node back, unsealed, and waits for a leader.
func (r *run) mend(ctx context.Context) {
	var errs []error
	for i, n := range r.cluster.Nodes {
		r.checkAlive(i)
		if n.PID() == 0 {
			errs = append(errs, n.Start())
		}
	}
	var hands sync.WaitGroup
	failed := make([]error, len(r.cluster.Nodes))
	for i, n := range r.cluster.Nodes {
		hands.Go(func() { failed[i] = n.Unseal(ctx) })
	}
	hands.Wait()
	if err := errors.Join(append(errs, failed...)...); err != nil {
		r.report("the cluster does not recover: %v", err)
		return
	}
	if r.awaitLeader(ctx) < 0 {
		r.report("the cluster has no leader although nothing is wrong any more")
	}
	r.compareStates(ctx)
}

// checkAlive reports a process that ended by itself.
func (r *run) checkAlive(node int) {
	n := r.node(node)
	if n.PID() == 0 {
		return
	}
	select {
	case <-n.Exited():
		r.report("the process of %s ended by itself; see %s", n.Name, n.LogFile)
		if err := n.Kill(); err != nil { // forgets it
			r.report("%v", err)
		}
	default:
	}
}
