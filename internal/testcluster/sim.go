package testcluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/cluster/clustertest"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/fsm"
)

// Options says what is simulated. Zero means the stated default.
type Options struct {
	Seed  uint64
	Nodes int // all of them voters; default 3

	// SnapshotThreshold and SnapshotInterval are those of cluster.Config.
	// Default 8192 entries, looked at every 30 s.
	SnapshotThreshold uint64
	SnapshotInterval  time.Duration
	// RPCTimeout bounds one call between nodes. Default 500 ms.
	RPCTimeout time.Duration

	// Stretch makes the timers of the consensus, and what waits for them, so many times
	// slower. Default 1.
	Stretch int
	// Seams are where faults are planted. Default: none.
	Seams Seams
	// Logger hears what all nodes log. Default: discard.
	Logger *slog.Logger
}

func (o *Options) fill() {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Stretch == 0 {
		o.Stretch = 1
	}
	if o.RPCTimeout == 0 {
		o.RPCTimeout = o.slow(500 * time.Millisecond)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *Options) slow(d time.Duration) time.Duration { return d * time.Duration(o.Stretch) }

// Sim is a simulated cluster. It must be made, used and closed within one
// synctest bubble.
type Sim struct {
	Network  *clustertest.Network
	Links    *Links // how fast and how safely messages travel
	Replicas []*Replica
	Witness  *Witness

	options  Options
	founding *core.Founding
	founded  uint64 // index of the founding batch
	promises *promises

	mu    sync.Mutex
	lives int        // guarded by mu
	dead  []*Process // guarded by mu
	halts []error    // guarded by mu; of nodes that were not dead yet
	mends int        // guarded by mu; rotten entries fetched from others
	late  []*Replica // guarded by mu; members that were no founders
}

// New starts a cluster of nodes named n0, n1, …, founds it and unseals them all.
func New(o Options) (*Sim, error) {
	o.fill()
	s := &Sim{Network: clustertest.NewNetwork(o.Seed), Witness: newWitness(), options: o, promises: newPromises()}
	s.Links = newLinks(s.Network, o.Seed)
	s.Network.SetTimeout(o.RPCTimeout)
	for i := range o.Nodes {
		s.Replicas = append(s.Replicas, &Replica{ID: fmt.Sprintf("n%d", i), Clock: newClock(), sim: s, disk: newDisk(), Trail: newTrail()})
	}
	if err := s.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("simulating a cluster: %w", err), s.Close())
	}
	return s, nil
}

func (s *Sim) begin() (err error) {
	for _, r := range s.Replicas {
		if err := r.Start(); err != nil {
			return err
		}
	}
	if s.founding, err = core.Found(newDice(s.options.Seed, "found"), time.Now(), 3, 2, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.options.slow(time.Minute))
	defer cancel()
	result, err := s.Replicas[0].Process().Node.Propose(ctx, s.founding.Batch)
	if err != nil {
		return err
	}
	if result.Code != fsm.Applied {
		return fmt.Errorf("the founding batch was answered with code %d", result.Code)
	}
	s.founded = result.Index
	for _, r := range s.Replicas {
		if err := r.Unseal(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Newcomer makes a node that is no member yet, with an empty disk and an id of its
// own. Start it and have the leader take it in. Clients do not know it, so it is not
// in Replicas; it stays sealed unless somebody unseals it.
func (s *Sim) Newcomer() *Replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &Replica{ID: fmt.Sprintf("late%d", len(s.late)), Clock: newClock(), sim: s, disk: newDisk(), Trail: newTrail(), late: true}
	s.late = append(s.late, r)
	return r
}

func (s *Sim) all() []*Replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(s.Replicas, s.late)
}

// Root is the caller with the root token.
func (s *Sim) Root() core.Caller { return core.Caller{Token: s.founding.RootToken} }

// Leader returns a running node that may order batches, or nil. Cut-off nodes
// may believe it for a while; of several the one with the highest term is meant.
func (s *Sim) Leader() *Replica {
	var leader *Replica
	var term uint64
	for _, r := range s.all() {
		p := r.Process()
		if p == nil || !p.Node.IsLeader() {
			continue
		}
		if t := p.Node.Stats().Term; leader == nil || t > term {
			leader, term = r, t
		}
	}
	return leader
}

// Converge waits until all nodes, which must run, have applied the same index,
// then compares their states and adds up every row.
func (s *Sim) Converge(ctx context.Context) error {
	target, err := s.Replicas[0].Process().Node.ReadIndex(ctx)
	if err != nil {
		return fmt.Errorf("converging: %w", err)
	}
	for {
		equal, index := s.aligned()
		if equal && index >= target {
			break
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("converging: nodes stay apart: %w", context.Cause(ctx))
		}
	}
	for _, r := range s.Replicas {
		if err := r.Process().Machine.Verify(); err != nil {
			return fmt.Errorf("converging: %s: %w", r.ID, err)
		}
	}
	return nil
}

// aligned tells whether all machines stand at one index in one state. Unequal
// states at one index are the witness's to report; here they only never align.
func (s *Sim) aligned() (equal bool, index uint64) {
	var first fsm.StateHash
	for i, r := range s.Replicas {
		at, hash := r.Process().Machine.StateHash()
		if i == 0 {
			index, first = at, hash
		} else if at != index || hash != first {
			return false, 0
		}
	}
	return true, index
}

// Halts returns why nodes stopped by themselves that nobody had killed.
func (s *Sim) Halts() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.halts
}

// Repairs is how many rotten log entries were fetched from another node.
func (s *Sim) Repairs() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mends
}

func (s *Sim) repaired() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mends++
}

func (s *Sim) halted(r *Replica, p *Process, err error) {
	if p.dead.Load() || p.doomed.Load() {
		return // its disk was taken away; it had to
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halts = append(s.halts, fmt.Errorf("%s halted: %w", r.ID, err))
}

// Close kills every node and returns when the last goroutine of each life has
// ended, which is what a bubble needs to end.
func (s *Sim) Close() error {
	for _, r := range s.all() {
		s.Network.Kill(r.ID)
	}
	for _, r := range s.all() {
		r.mu.Lock()
		p := r.process
		r.process = nil
		r.mu.Unlock()
		if p != nil {
			s.bury(p)
		}
	}
	s.mu.Lock()
	dead := s.dead
	s.mu.Unlock()
	var errs []error
	for _, p := range dead {
		<-p.closed
		errs = append(errs, p.failed)
	}
	return errors.Join(errs...)
}

func (s *Sim) bury(p *Process) {
	s.mu.Lock()
	s.dead = append(s.dead, p)
	s.mu.Unlock()
	p.end()
}

func (s *Sim) nextLife() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lives++
	return s.lives
}

func (s *Sim) voters() []cluster.Peer {
	var all []cluster.Peer
	for _, r := range s.Replicas {
		all = append(all, r.peer())
	}
	return all
}

// FailedCalls is how many calls between nodes to store entries had no answer so far.
func (s *Sim) FailedCalls() int64 { return s.promises.failed.Load() }

// Violations returns what the witnesses saw: replicas that disagreed, and nodes that
// came back without what they had promised. Empty is good.
func (s *Sim) Violations() []string {
	s.promises.mu.Lock()
	defer s.promises.mu.Unlock()
	return append(s.Witness.Violations(), s.promises.wrong...)
}
