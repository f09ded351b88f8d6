package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// A Node is one replica. Its methods may be called concurrently; each returns
// when its context ends at the latest.
type Node struct {
	cfg     Config
	raft    *raft.Raft
	wire    *wire
	disk    *disk
	marks   *marks
	applier *applier

	leadership *leadership
	sessions   *sessions
	load       *load
	orders     *queue // for the log, when this node leads
	forwards   *queue // for the leader, when another does
	reads      *rounds
	succession succession
	probes     sync.Map // raft.ServerID to chan struct{}: slots
	promised   uint64   // see GiveUpTail; 0: nothing is owed
	fencedTerm atomic.Uint64
	fencedAt   atomic.Int64  // monotonic, of the last fence; 0: none
	transfer   chan struct{} // capacity 1: who holds it transfers leadership

	roster roster

	ctx    context.Context // ends with stop
	cancel context.CancelCauseFunc
	stop   <-chan struct{} // the node was closed or has halted
	halted <-chan struct{} // the same; for waits of callers
	once   sync.Once

	spawning sync.Mutex     // orders spawn against the end of ctx
	running  sync.WaitGroup // goroutines of the node; grows through spawn only

	reason  atomic.Pointer[error]
	started chan struct{} // closed when the library runs
}

// Start brings a replica up from its stores and joins it to the others through
// the transport. The node runs until Close, not until ctx ends; ctx bounds the
// start only. The caller keeps the stores, the machine and the transport, and
// closes them after Close.
func Start(ctx context.Context, cfg Config) (*Node, error) {
	cfg.fill()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := checkMemory(&cfg); err != nil {
		return nil, err
	}
	promised, err := promised(cfg.Stable)
	if err != nil {
		return nil, fmt.Errorf("starting node %s: %w", cfg.ID, err)
	}
	n := assemble(cfg)
	if n.promised = promised; promised > 0 {
		n.wire.inbox = make(chan raft.RPC)
		n.spawn(func() { n.screen(n.cfg.Transport.Consumer(), n.wire.inbox) })
		n.spawn(n.redeem)
	}
	notify := make(chan bool, 16)
	if err := n.startRaft(ctx, notify); err != nil {
		n.end(ErrClosed)
		return nil, fmt.Errorf("starting node %s: %w", cfg.ID, err)
	}
	close(n.started)
	seen := make(chan raft.Observation, 1)
	n.raft.RegisterObserver(raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	}))
	for _, run := range []func(){
		n.order, n.forward, n.readRounds, n.compareStates,
		func() { n.followLeader(seen) },
		func() { n.govern(notify) },
	} {
		n.spawn(run)
	}
	if cfg.Rumours != nil {
		n.spawn(n.heedRumours)
	}
	cfg.Transport.Serve(handler{n})
	return n, nil
}

func assemble(cfg Config) *Node {
	n := &Node{cfg: cfg, marks: &marks{}, transfer: make(chan struct{}, 1), started: make(chan struct{})}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.stop, n.halted = n.ctx.Done(), n.ctx.Done()
	n.roster.logger = cfg.Logger
	n.roster.removed = func() { n.spawn(cfg.Removed) }
	n.leadership = newLeadership(n.ctx)
	n.sessions = newSessions(cfg.Rand, n.deliver)
	n.load = &load{maxBatches: cfg.QueueBatches, maxBytes: cfg.QueueBytes}
	n.orders = newQueue(cfg.QueueBatches, cfg.QueueBytes)
	n.forwards = newQueue(cfg.QueueBatches, cfg.QueueBytes)
	n.reads = newRounds()
	n.disk = &disk{clock: cfg.Clock, slow: cfg.DiskSlow, dead: cfg.DiskDead, halt: n.halt}
	n.wire = newWire(n)
	n.applier = &applier{machine: cfg.Machine, marks: n.marks, halt: n.halt, members: n.roster.note, moved: make(chan struct{}, 1)}
	index, _ := cfg.Machine.Applied()
	n.marks.advance(index)
	return n
}

// muted tells whether the node must not speak as the leader of term.
func (n *Node) muted(term uint64) bool {
	return n.ctx.Err() != nil || n.disk.stalled() || n.fencedTerm.Load() == term && term != 0
}

// fence gives up the leadership of term: nothing more is sent in it, so the
// others elect another, and for transferStuck this node does not stand itself.
func (n *Node) fence(term uint64) {
	n.fencedTerm.Store(term)
	n.fencedAt.Store(int64(max(n.cfg.Clock.Monotonic(), 1)))
}

// abstains tells whether the node must not ask for votes. It still gives them.
func (n *Node) abstains() bool {
	at := n.fencedAt.Load()
	return n.ctx.Err() != nil || n.disk.stalled() || n.owes() ||
		at != 0 && n.cfg.Clock.Monotonic()-time.Duration(at) < transferStuck
}

// checkMemory refuses a log that ends before the applied state: then the log
// was lost or exchanged, votes and acknowledgements with it (L10).
func checkMemory(cfg *Config) error {
	last, err := cfg.Log.LastIndex()
	if err != nil {
		return fmt.Errorf("reading the end of the log: %w", err)
	}
	snapshots, err := cfg.Snapshots.List()
	if err != nil {
		return fmt.Errorf("listing snapshots: %w", err)
	}
	if len(snapshots) > 0 {
		last = max(last, snapshots[0].Index)
	}
	if index, _ := cfg.Machine.Applied(); index > last {
		return fmt.Errorf("log and snapshots end at %d, the state is at %d: %w", last, index, ErrAmnesia)
	}
	return nil
}

// startRaft starts the library on a goroutine of its own, because a failed
// write ends the goroutine that made it (see disk).
func (n *Node) startRaft(ctx context.Context, notify chan<- bool) error {
	rc := n.cfg.raftConfig(notify)
	// A leader reads back what it has just written, once per follower.
	log, err := raft.NewLogCache(cachedEntries, &watchedLog{n.cfg.Log, n.disk})
	if err != nil {
		return err
	}
	stores := raftStores{
		log:       log,
		stable:    &watchedStable{n.cfg.Stable, n.disk},
		snapshots: &watchedSnapshots{n.cfg.Snapshots, n.roster.note},
	}
	result := errors.New("writing the first state failed")
	done := make(chan struct{})
	go func() {
		defer close(done)
		result = n.buildRaft(rc, stores)
	}()
	select {
	case <-done:
		if result != nil && n.Halted() != nil {
			return n.Halted()
		}
		return result
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// cachedEntries is how many of the newest entries are kept in memory. At load
// an entry has about 100 KB.
const cachedEntries = 128

type raftStores struct {
	log       *raft.LogCache
	stable    *watchedStable
	snapshots *watchedSnapshots
}

func (n *Node) buildRaft(rc *raft.Config, s raftStores) error {
	exists, err := raft.HasExistingState(s.log, s.stable, s.snapshots)
	if err != nil {
		return fmt.Errorf("looking for earlier state: %w", err)
	}
	if n.cfg.Bootstrap && !exists {
		if err := raft.BootstrapCluster(rc, s.log, s.stable, s.snapshots, n.wire, n.firstMembers()); err != nil {
			return fmt.Errorf("bootstrapping: %w", err)
		}
	}
	list, err := s.snapshots.List()
	if err != nil {
		return fmt.Errorf("listing snapshots: %w", err)
	}
	if len(list) > 0 {
		n.roster.note(list[0].Configuration, list[0].ConfigurationIndex)
		// The machine keeps its state on disk itself: what it has is not read again.
		index, _ := n.cfg.Machine.Applied()
		rc.NoSnapshotRestoreOnStart = index >= list[0].Index
	}
	var t raft.Transport = n.wire
	if _, ok := t.(raft.WithPreVote); !ok || rc.PreVoteDisabled {
		return ErrNoPreVote
	}
	r, err := raft.NewRaft(rc, n.applier, s.log, s.stable, s.snapshots, t)
	if err != nil {
		return fmt.Errorf("starting raft: %w", err)
	}
	n.raft = r
	return nil
}

func (n *Node) firstMembers() raft.Configuration {
	voters := n.cfg.Voters
	if len(voters) == 0 {
		voters = []Peer{{n.cfg.ID, string(n.cfg.Transport.LocalAddr())}}
	}
	var c raft.Configuration
	for _, v := range voters {
		c.Servers = append(c.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(v.ID), Address: raft.ServerAddress(v.Address)})
	}
	return c
}

// spawn runs f as one of the node's goroutines, or not at all when the node has
// stopped. Whoever waits for f's answer waits for n.stop as well.
func (n *Node) spawn(f func()) bool {
	n.spawning.Lock()
	defer n.spawning.Unlock()
	if n.ctx.Err() != nil {
		return false
	}
	n.running.Go(f)
	return true
}

// ask runs f, which waits for a future of the library, beside the node's
// goroutines: the library leaves futures unanswered that are queued when it
// stops (L15), and Close must not wait for those.
func (n *Node) ask(f func()) {
	n.spawning.Lock()
	defer n.spawning.Unlock()
	if n.ctx.Err() == nil {
		go f()
	}
}

func (n *Node) end(cause error) {
	n.spawning.Lock()
	defer n.spawning.Unlock()
	n.cancel(cause)
}

// halt stops the replica for good, for reason. It returns at once, may be
// called from the library's goroutines, and only the first call counts.
func (n *Node) halt(reason error) {
	n.once.Do(func() {
		n.reason.Store(&reason)
		n.end(fmt.Errorf("%w: %w", ErrClosed, reason))
		n.cfg.Logger.Error("replica halts", "node", n.cfg.ID, "error", reason)
		go func() {
			if n.cfg.Fatal != nil {
				n.cfg.Fatal(reason)
			}
		}()
		n.endRaft()
	})
}

// endRaft has the library stop soon, so that a halted replica neither votes
// nor acknowledges while its process still exists. An entry under way is
// answered when leadership is lost at the latest; after Shutdown the library
// might never answer it (L15), hence the patience.
func (n *Node) endRaft() {
	select {
	case <-n.started:
	default:
		return // Start fails
	}
	go func() {
		settle(&n.running, 2*n.cfg.HeartbeatTimeout)
		n.raft.Shutdown()
	}()
}

// Halted returns why the replica had to halt, or nil.
func (n *Node) Halted() error {
	if p := n.reason.Load(); p != nil {
		return *p
	}
	return nil
}

// Done is closed when the node was closed or has halted.
func (n *Node) Done() <-chan struct{} { return n.stop }

// Close stops the node. What it has acknowledged is durable; what it has not
// answered yet gets an error. When ctx ends first, goroutines may remain.
func (n *Node) Close(ctx context.Context) error {
	n.once.Do(func() { n.end(ErrClosed) })
	n.cfg.Transport.Serve(nil)
	stopped := make(chan error, 1)
	go func() {
		settle(&n.running, 2*n.cfg.HeartbeatTimeout)
		err := n.raft.Shutdown().Error()
		n.running.Wait()
		stopped <- err
	}()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
		return fmt.Errorf("closing node: %w", context.Cause(ctx))
	}
}

// settle waits for g, but not longer than d.
func settle(g *sync.WaitGroup, d time.Duration) {
	done := make(chan struct{})
	go func() {
		g.Wait()
		close(done)
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}

// Stats is a node's view of itself, for people and metrics.
type Stats struct {
	ID      string
	State   string // Follower, Candidate, Leader or Shutdown
	Term    uint64
	Commit  uint64 // highest index known to be committed
	Applied uint64 // the machine's applied index
	Last    uint64 // last index in the log
	Leader  Peer   // zero: none known
}

// Stats returns the present numbers; they are not of one moment.
func (n *Node) Stats() Stats {
	address, id := n.raft.LeaderWithID()
	return Stats{
		ID: n.cfg.ID, State: n.raft.State().String(), Term: n.raft.CurrentTerm(),
		Commit: n.raft.CommitIndex(), Applied: n.marks.at(), Last: n.raft.LastIndex(),
		Leader: Peer{string(id), string(address)},
	}
}

// IsLeader tells whether this node leads and may order batches. It may be over
// by the time the caller looks.
func (n *Node) IsLeader() bool { return n.leadership.now().office != nil }

// LogTime is the present time on the log clock: as the leader stamps it, or, on
// other nodes, the highest the machine has seen.
func (n *Node) LogTime() time.Time {
	if o := n.leadership.now().office; o != nil {
		return o.clock.now().Time()
	}
	return n.cfg.Machine.Time().Time()
}

// Snapshot has a snapshot taken now and returns when it is durable. With
// nothing new since the last one it does nothing. While leadership is handed over
// the library takes none; it is asked again then.
func (n *Node) Snapshot(ctx context.Context) error {
	for {
		err := n.trySnapshot(ctx)
		if !errors.Is(err, raft.ErrLeadershipTransferInProgress) || ctx.Err() != nil {
			return err
		}
		wait(ctx, retryPause)
	}
}

func (n *Node) trySnapshot(ctx context.Context) error {
	done := make(chan error, 1)
	n.ask(func() { done <- n.raft.Snapshot().Error() })
	select {
	case err := <-done:
		if errors.Is(err, raft.ErrNothingNewToSnapshot) {
			return nil
		}
		return err
	case <-n.stop:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("taking snapshot: %w", context.Cause(ctx))
	}
}

var _ raft.BatchingFSM = (*applier)(nil)
