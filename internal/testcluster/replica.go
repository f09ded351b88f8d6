package testcluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/core"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// A Replica is a node over all its lives. One goroutine at a time starts and
// kills it; Process is for any.
type Replica struct {
	ID    string
	Clock *Clock
	Trail *Trail // its audit log
	sim   *Sim
	disk  *disk
	late  bool // it was no founding member
	full  atomic.Bool

	// What the last life had applied when it died, and the end of its newest
	// snapshot. Of the goroutine that starts and kills.
	applied, covered uint64

	mu      sync.Mutex
	process *Process // guarded by mu; nil while the node is down
}

// ErrDown: the node does not run.
var ErrDown = errors.New("the node is down")

// Process returns the life that runs now, or nil.
func (r *Replica) Process() *Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.process
}

// Start brings the node up from its disk, sealed.
func (r *Replica) Start() error {
	if r.Process() != nil {
		return fmt.Errorf("starting %s: it runs", r.ID)
	}
	p, err := r.open(r.disk)
	if err != nil {
		return fmt.Errorf("starting %s: %w", r.ID, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.process = p
	return nil
}

// A Death is how a process ends.
type Death uint8

const (
	// Killed: as by kill -9. What was written is there for the next life.
	Killed Death = iota
	// PowerCut: of what was written but not synced, any part may be gone.
	PowerCut
)

// Kill ends the node in an instant: nothing that it owes is answered, and
// nothing that it does from now on is seen by anybody or found on its disk.
func (r *Replica) Kill(how Death) {
	r.mu.Lock()
	p := r.process
	r.process = nil
	r.mu.Unlock()
	if p == nil {
		return
	}
	if how == PowerCut {
		r.sim.Network.Vanish(r.ID)
	} else {
		r.sim.Network.Kill(r.ID)
	}
	keep := 100
	rng := r.sim.crash(p.Life)
	if how == PowerCut {
		keep = rng.IntN(100)
	}
	r.applied, _ = p.Machine.Applied()
	r.covered = p.covered()
	r.disk = p.disk.after(keep, rng)
	if lie := r.sim.options.Seams.Crash; lie != nil && how == PowerCut {
		lie(r.disk.log)
	}
	r.sim.bury(p)
}

// Unseal gives the node the shares.
func (r *Replica) Unseal(ctx context.Context) error {
	p := r.Process()
	if p == nil {
		return fmt.Errorf("unsealing %s: %w", r.ID, ErrDown)
	}
	cfg, err := r.sealConfig(ctx, p)
	if err != nil {
		return fmt.Errorf("unsealing %s: %w", r.ID, err)
	}
	for _, share := range r.sim.founding.Shares[:cfg.Threshold()] {
		if _, err := p.Gate.Submit(cfg, share); err != nil {
			return fmt.Errorf("unsealing %s: %w", r.ID, err)
		}
	}
	return nil
}

// sealConfig reads the seal configuration from the node's own state, once the
// state has it.
func (r *Replica) sealConfig(ctx context.Context, p *Process) (cfg seal.Config, err error) {
	if err := p.Node.WaitApplied(ctx, r.sim.founded); err != nil {
		return cfg, err
	}
	view, err := p.Machine.View()
	if err != nil {
		return cfg, err
	}
	cfg, ok, err := core.ReadSealConfig(view)
	if err == nil && !ok {
		err = errors.New("the state has no seal configuration")
	}
	return cfg, errors.Join(err, view.Close())
}

// Seal takes the keys away from the node, which goes on as a replica.
func (r *Replica) Seal() error {
	p := r.Process()
	if p == nil {
		return fmt.Errorf("sealing %s: %w", r.ID, ErrDown)
	}
	return p.Gate.Close()
}

// Rot flips a bit in an entry of the log that the node, which is down, has
// applied, back entries before the last one. It tells whether there was one
// that the next start will read, as it lies behind the newest snapshot, and that
// another node still has: what made way for snapshots everywhere cannot be mended.
func (r *Replica) Rot(back uint64) bool {
	if r.Process() != nil || r.applied <= r.covered+back {
		return false
	}
	index := r.applied - back
	for _, other := range r.sim.Replicas {
		p := other.Process()
		if p == nil {
			continue
		}
		first, ferr := p.log.FirstIndex()
		last, lerr := p.log.LastIndex()
		if ferr == nil && lerr == nil && first != 0 && first <= index && index <= last {
			return r.disk.log.Corrupt(index)
		}
	}
	return false
}

// SlowDisk makes every write of the node's log take d longer, in this life; 0
// ends it for the writes that begin from then on.
func (r *Replica) SlowDisk(d time.Duration) {
	p := r.Process()
	if p == nil {
		return
	}
	if d == 0 {
		p.disk.log.SetStall(nil)
		return
	}
	p.disk.log.SetStall(func() { <-time.After(d) })
}

// BreakDisk makes every write of the node's log fail with err from now on, as a disk
// does that has an error or is full. The node must halt at the next one.
func (r *Replica) BreakDisk(err error) {
	if p := r.Process(); p != nil {
		p.doomed.Store(true)
		p.disk.log.SetFault(func(op string) error {
			switch op {
			case "StoreLogs", "DeleteRange", "Set":
				return err
			}
			return nil
		})
	}
}

// HangDisk makes every write of the node's log hang, in this life, until d has passed.
// If that is longer than cluster.Config.DiskDead, the node must halt.
func (r *Replica) HangDisk(d time.Duration) {
	if p := r.Process(); p != nil {
		p.doomed.Store(true)
		until := time.Now().Add(d)
		p.disk.log.SetStall(func() { <-time.After(time.Until(until)) })
	}
}

// NearlyFull has the node refuse writes, as one does whose disk is nearly full.
func (r *Replica) NearlyFull(is bool) { r.full.Store(is) }

func (r *Replica) writable() error {
	if r.full.Load() {
		return &core.Error{Reason: conclavev1.Reason_REASON_DISK_FULL, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE, Message: "this node's disk is nearly full"}
	}
	return nil
}

// peer is how the others know the node.
func (r *Replica) peer() cluster.Peer { return cluster.Peer{ID: r.ID, Address: r.ID} }
