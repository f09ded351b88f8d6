package testcluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/core/sys"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/kv"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/seal"
	"github.com/conclave-secrets/conclave/storage/raftlog"
	"github.com/conclave-secrets/conclave/storage/snapshot"
	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// snapshotRetain is how many snapshots a simulated node keeps.
const snapshotRetain = 2

// A Process is one life of a node, from Start to Kill. Its fields do not change.
type Process struct {
	Life     int // counted over all nodes of the simulation
	Node     *cluster.Node
	Machine  *fsm.Machine
	Ledger   core.Ledger // the replicated state as the request path sees it
	Gate     *core.Gate
	Pipeline *core.Pipeline
	Leases   *core.Leases
	Secrets  *kv.Engine
	Trail    *Trail // the node's audit log

	disk      *disk
	snapshots *snapshot.Store
	store     *state.Store
	log       *raftlog.Store

	ctx      context.Context // ends when the process dies
	die      context.CancelFunc
	dead     atomic.Bool
	doomed   atomic.Bool // its disk was broken: it must halt, and that is no fault of its own
	doors    sync.Mutex  // orders Enter against the end
	guests   sync.WaitGroup
	closed   chan struct{} // everything is closed
	patience time.Duration // for closing
	failed   error         // of closing; read after closed
}

// ledger is the replicated state as core wants it.
type ledger struct {
	*cluster.Node
	machine *fsm.Machine
}

// View implements core.Ledger.
func (l ledger) View() (*fsm.View, error) { return l.machine.View() }

// Enter begins a request to the process. The context ends when the process
// dies. leave ends the request and tells whether its answer reached anybody: a
// process that died meanwhile has told nobody anything. ok is false when the
// process was dead already.
func (p *Process) Enter(ctx context.Context) (within context.Context, leave func() (answered bool), ok bool) {
	p.doors.Lock()
	defer p.doors.Unlock()
	if p.dead.Load() {
		return nil, nil, false
	}
	p.guests.Add(1)
	within, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(p.ctx, cancel)
	return within, func() bool {
		stop()
		cancel()
		p.guests.Done()
		return !p.dead.Load()
	}, true
}

// open brings a node up from its disk, sealed.
func (r *Replica) open(d *disk) (p *Process, err error) {
	p = &Process{Life: r.sim.nextLife(), disk: d, Trail: r.Trail, patience: r.sim.options.slow(time.Minute), Secrets: &kv.Engine{}, closed: make(chan struct{})}
	p.ctx, p.die = context.WithCancel(context.Background())
	dice := newDice(r.sim.options.Seed, fmt.Sprint("life", p.Life))
	var files vfs.FS = d.fs
	if wrap := r.sim.options.Seams.State; wrap != nil {
		files = wrap(files)
	}
	if p.store, err = state.Open("state", files, state.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10}); err != nil {
		return nil, err
	}
	if p.Machine, err = fsm.Open(p.store); err != nil {
		return nil, errors.Join(err, p.store.Close())
	}
	p.Gate = core.NewGate(dice, catalog(), r.openTrail)
	if err := r.join(p, dice); err != nil {
		return nil, errors.Join(err, p.Machine.Close(), p.store.Close())
	}
	var l core.Ledger = ledger{p.Node, p.Machine}
	if wrap := r.sim.options.Seams.Ledger; wrap != nil {
		l = wrap(p, l)
	}
	p.Ledger = l
	p.Pipeline = core.NewPipeline(core.Options{Gate: p.Gate, Ledger: l, Clock: r.Clock, Rand: dice,
		Writable: r.writable})
	p.Leases = core.NewLeases(p.Pipeline)
	return p, nil
}

// catalog is what the simulated nodes can mount. (Mounts of other types that the founding
// made have no routes.)
func catalog() core.Catalog {
	return core.Catalog{
		Engines: map[string]engine.Backend{sys.Backend{}.Type(): sys.Backend{}, kv.Backend{}.Type(): kv.Backend{}},
		Auth:    map[string]engine.Backend{sys.Tokens{}.Type(): sys.Tokens{}},
	}
}

// openTrail opens the node's audit log.
func (r *Replica) openTrail(*seal.Barrier) (core.Recorder, error) {
	var t core.Recorder = r.Trail
	if wrap := r.sim.options.Seams.Recorder; wrap != nil {
		t = wrap(t)
	}
	return t, nil
}

// join opens log and snapshots and starts the consensus node.
func (r *Replica) join(p *Process, dice *dice) error {
	o := r.sim.options
	var err error
	p.snapshots, err = snapshot.New("snapshots", p.disk.fs, snapshotRetain, snapshot.WithLogger(o.Logger))
	if err != nil {
		return err
	}
	newest := func() (uint64, error) {
		list, err := p.snapshots.List()
		if err != nil || len(list) == 0 {
			return 0, err
		}
		return list[0].Index, nil
	}
	var transport cluster.Transport = overheard{r.sim.Network.Transport(r.ID), r.sim.promises}
	if wrap := o.Seams.Transport; wrap != nil {
		transport = wrap(p, transport)
	}
	var inner raftlog.Inner = p.disk.log
	if wrap := o.Seams.Log; wrap != nil {
		inner = wrap(p.disk.log)
	}
	p.log, err = raftlog.New(raftlog.Options{
		Inner: inner, LastSnapshot: newest, Logger: o.Logger,
		Fail:   func(error) {}, // the node meets the error, too, and halts
		Repair: func(index uint64) (*raft.Log, error) { return r.refetch(p.ctx, transport, index) },
	})
	if err != nil {
		return err
	}
	covered, err := newest()
	if err == nil {
		applied, _ := p.Machine.Applied()
		err = p.log.CheckAgainst(applied, covered)
	}
	if err == nil {
		err = r.sim.promises.kept(r.ID, p.log, covered, r.sim.Witness.term)
	}
	if err != nil {
		return errors.Join(err, p.log.Close())
	}
	var inside cluster.Machine = p.Machine
	if wrap := o.Seams.Machine; wrap != nil {
		inside = wrap(r, inside)
	}
	machine := &watchedMachine{Machine: inside, witness: r.sim.Witness, node: r.ID}
	ctx, cancel := context.WithTimeout(context.Background(), r.sim.options.slow(time.Minute))
	defer cancel()
	p.Node, err = cluster.Start(ctx, cluster.Config{
		ID: r.ID, Machine: machine,
		Log: p.log, Stable: p.log, Snapshots: p.snapshots, Transport: transport,
		Clock: r.Clock, Rand: dice, Logger: o.Logger.With("node", r.ID),
		Bootstrap: !r.late, Voters: r.sim.voters(),
		Fatal:             func(err error) { r.sim.halted(r, p, err) },
		Unsealed:          func() bool { return !p.Gate.Sealed() },
		RPCTimeout:        o.RPCTimeout,
		SnapshotThreshold: o.SnapshotThreshold, SnapshotInterval: o.SnapshotInterval, SnapshotRetain: snapshotRetain,
		HashInterval:     o.slow(time.Second),
		HeartbeatTimeout: o.slow(300 * time.Millisecond), CommitTimeout: o.slow(50 * time.Millisecond),
		DiskSlow: o.slow(2 * time.Second), DiskDead: o.slow(5 * time.Second), DutyInterval: o.slow(time.Second),
		PromoteStable: o.slow(300 * time.Millisecond),
	})
	if err != nil {
		return errors.Join(err, p.log.Close())
	}
	machine.runs.Store(true)
	return nil
}

// covered is the index at which the newest snapshot ends, or beyond every index
// when that cannot be told.
func (p *Process) covered() uint64 {
	list, err := p.snapshots.List()
	switch {
	case err != nil:
		return math.MaxUint64 >> 1
	case len(list) == 0:
		return 0
	}
	return list[0].Index
}

// refetch gets the entry that has rotted on this node from another. Others may
// be out of reach for a while; it asks until one answers.
func (r *Replica) refetch(ctx context.Context, via cluster.Caller, index uint64) (*raft.Log, error) {
	ctx, cancel := context.WithTimeout(ctx, r.sim.options.slow(30*time.Second))
	defer cancel()
	var others []cluster.Peer
	for _, other := range r.sim.Replicas {
		if other != r {
			others = append(others, other.peer())
		}
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, r.sim.options.slow(time.Second))
		entry, err := cluster.FetchEntry(attempt, via, others, index)
		cancel()
		if err == nil {
			r.sim.repaired()
			if change := r.sim.options.Seams.Repair; change != nil {
				entry = change(entry)
			}
			return entry, nil
		}
		select {
		case <-time.After(r.sim.options.slow(100 * time.Millisecond)):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// end makes the process dead to the world and closes what it had open.
func (p *Process) end() {
	p.doors.Lock()
	first := !p.dead.Swap(true)
	p.doors.Unlock()
	if !first {
		return
	}
	p.die()
	go func() {
		defer close(p.closed)
		ctx, cancel := context.WithTimeout(context.Background(), p.patience)
		defer cancel()
		err := p.Node.Close(ctx)
		if p.doomed.Load() && errors.Is(err, context.DeadlineExceeded) {
			err = nil // a transfer that was queued when the disk broke is never answered (L15)
		}
		p.guests.Wait()
		p.failed = errors.Join(err, p.Gate.Close(), p.closeLog(), p.Machine.Close(), p.store.Close())
	}()
}

// closeLog closes the log. One that has failed says so once more.
func (p *Process) closeLog() error {
	err := p.log.Close()
	if p.doomed.Load() {
		return nil
	}
	return err
}

// crash returns a seeded source for the power cut of one life.
func (s *Sim) crash(life int) *rand.Rand {
	return rand.New(rand.NewPCG(s.options.Seed, uint64(life)))
}

// Doomed tells that the disk of this life was broken, so that it must halt.
func (p *Process) Doomed() bool { return p.doomed.Load() }
