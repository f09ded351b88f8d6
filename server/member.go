package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine/kv"
	"github.com/conclave-secrets/conclave/fsm"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/storage/raftlog"
	"github.com/conclave-secrets/conclave/storage/snapshot"
	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/vfs"
	"github.com/conclave-secrets/conclave/transport/grpc"
	"github.com/conclave-secrets/conclave/transport/peer"
)

// member is the rooms of a node that belongs to a cluster.
type member struct {
	cfg    Config
	logger *slog.Logger
	id     *identity

	state     *state.Store
	machine   *fsm.Machine
	log       *raftlog.Store
	transport *peer.Transport
	node      *cluster.Node
	gossip    *cluster.Gossip
	gate      *core.Gate
	rooms     *grpc.Rooms
	anchoring *anchoring
	opened    []func() error // what to close, in the order in which it was opened

	// The callbacks of rooms that open earlier look at rooms that open later;
	// nil: not open yet.
	nodeNow   atomic.Pointer[cluster.Node]
	gossipNow atomic.Pointer[cluster.Gossip]
	undoer    *core.Undoer
	serving   chan struct{} // closed once undoer and rooms are there

	heardMu   sync.Mutex  // also keeps two writers off the identity file
	lastHeard []otherNode // guarded by heardMu; as the file has them
}

// ledger is what core sees of the cluster.
type ledger struct {
	*cluster.Node
	machine *fsm.Machine
}

// View implements core.Ledger.
func (l ledger) View() (*fsm.View, error) { return l.machine.View() }

// openMember opens the rooms, from the disk upwards. found starts a new cluster
// with this node as its only member. fatal hears once of what the node cannot
// survive.
func openMember(ctx context.Context, cfg Config, id *identity, c *credentials, l listeners, logger *slog.Logger, found bool, fatal func(error)) (*member, error) {
	m := &member{cfg: cfg, logger: logger, id: id, lastHeard: id.Others, serving: make(chan struct{})}
	m.gate = core.NewGate(rand.Reader, cfg.Catalog, m.openAudit)
	for _, step := range []func() error{
		m.claim,
		func() error { return m.openState(fatal) },
		func() error { return m.openTransport(c, l.peer) },
		func() error { return m.openNode(ctx, found, fatal) },
		func() error { return m.openGossip(ctx, l.gossip) },
	} {
		if err := step(); err != nil {
			if cerr := m.close(); cerr != nil {
				logger.Debug("closing after a failed start", "error", cerr) // mostly the same again
			}
			return nil, err
		}
	}
	m.openRooms()
	return m, nil
}

// closeLater notes how to close what was just opened.
func (m *member) closeLater(f func() error) { m.opened = append(m.opened, f) }

// close closes the rooms from the top downwards.
func (m *member) close() error {
	var errs []error
	for i := len(m.opened) - 1; i >= 0; i-- {
		errs = append(errs, m.opened[i]())
	}
	m.opened = nil
	return errors.Join(errs...)
}

func (m *member) openState(fatal func(error)) error {
	store, err := state.Open(filepath.Join(m.cfg.DataDir, stateDir), vfs.Default, state.Options{Fatal: fatal, Logger: m.logger.With("part", "state")})
	if err != nil {
		return err
	}
	m.state = store
	m.closeLater(store.Close)
	if m.machine, err = fsm.Open(store); err != nil {
		return err
	}
	m.closeLater(func() error { return errors.Join(m.gate.Close(), m.machine.Flush(), m.machine.Close()) })
	return nil
}

func (m *member) openTransport(c *credentials, listener net.Listener) (err error) {
	m.transport, err = peer.New(peer.Config{
		Listener: listener, Address: advertised(m.cfg.Peer, listener.Addr()), TLS: c.forPeers(),
		Allowed: m.allowed, Logger: m.logger.With("part", "peer"),
	})
	if err == nil {
		m.closeLater(m.transport.Close)
	}
	return err
}

// allowed tells whether another node may speak to this one: a member may; and
// while this node does not know the members yet, whoever the authority vouches for.
func (m *member) allowed(nodeID string) bool {
	node := m.nodeNow.Load()
	if node == nil {
		return true
	}
	members := node.Members()
	for _, other := range members {
		if other.ID == nodeID {
			return true
		}
	}
	return len(members) == 0
}

func (m *member) openNode(ctx context.Context, found bool, fatal func(error)) error {
	dir := filepath.Join(m.cfg.DataDir, raftDir)
	if err := vfs.MkdirAllSync(vfs.Default, dir); err != nil {
		return fmt.Errorf("creating log directory: %w", err)
	}
	snapshots, err := snapshot.New(filepath.Join(m.cfg.DataDir, snapshotDir), vfs.Default, snapshotRetain, snapshot.WithLogger(m.logger.With("part", "snapshot")))
	if err != nil {
		return err
	}
	newest := func() (uint64, error) {
		list, err := snapshots.List()
		if err != nil || len(list) == 0 {
			return 0, err
		}
		return list[0].Index, nil
	}
	if m.log, err = raftlog.Open(dir, raftlog.Options{Fail: fatal, LastSnapshot: newest, Logger: m.logger.With("part", "log")}); err != nil {
		return err
	}
	m.closeLater(m.log.Close)
	m.log.SetRepair(m.fetchEntry)
	if err := m.checkLog(ctx, snapshots, newest); err != nil {
		return err
	}
	m.node, err = cluster.Start(ctx, cluster.Config{
		ID: m.id.NodeID, Version: Version, Machine: m.machine, Log: m.log, Stable: m.log, Snapshots: snapshots,
		Transport: m.transport, Addresses: m.peerAddress, Clock: systemClock(), Rand: rand.Reader,
		Logger: m.logger.With("part", "cluster"), Bootstrap: found,
		Fatal:    func(reason error) { fatal(m.ended(reason)) },
		Rumours:  rumours{m},
		Voters:   []cluster.Peer{{ID: m.id.NodeID, Address: string(m.transport.LocalAddr())}},
		Unsealed: func() bool { return !m.gate.Sealed() },
		Lead:     m.lead,

		HeartbeatTimeout:  m.cfg.Raft.Heartbeat,
		SnapshotThreshold: m.cfg.Raft.SnapshotThreshold,
		SnapshotInterval:  m.cfg.Raft.SnapshotInterval,
		SnapshotRetain:    snapshotRetain,
		PromoteStable:     m.cfg.Raft.PromoteAfter,
		DutyInterval:      min(max(m.cfg.Raft.PromoteAfter, leastDuty), time.Second),
		DeadAfter:         m.cfg.Raft.deadAfter(),
		MinQuorum:         m.cfg.Raft.MinQuorum,
	})
	if err != nil {
		return err
	}
	m.nodeNow.Store(m.node)
	m.closeLater(m.closeNode)
	return nil
}

// lead does what one node of the cluster does for all, until ctx ends.
func (m *member) lead(ctx context.Context) {
	select {
	case <-m.serving:
		m.undoer.Run(ctx)
	case <-ctx.Done():
	}
}

// leastDuty is the fastest pace of the leader's duties.
const leastDuty = 200 * time.Millisecond

// snapshotRetain is how many snapshots a node keeps.
const snapshotRetain = 2

// checkLog repairs the log (L11) and refuses to vote with one that was lost or
// exchanged (L10).
func (m *member) checkLog(ctx context.Context, snapshots raft.SnapshotStore, newestSnapshot func() (uint64, error)) error {
	newest, err := newestSnapshot()
	if err != nil {
		return fmt.Errorf("listing snapshots: %w", err)
	}
	applied, _ := m.machine.Applied()
	if err := m.mendLog(ctx, max(applied, newest), snapshots); err != nil {
		return err
	}
	if err := m.log.CheckAgainst(applied, newest); err != nil {
		if errors.Is(err, raftlog.ErrAmnesia) {
			return &DataDirError{m.cfg.DataDir, "has lost part of its log: " + err.Error(), "remove this node from the cluster, empty the directory, and join again"}
		}
		return err
	}
	return nil
}

// closeNode hands leadership over if this node has it, so that writers wait for
// a transfer and not for an election, and stops.
func (m *member) closeNode() error {
	ctx, cancel := context.WithTimeout(context.Background(), m.cfg.ShutdownTimeout)
	defer cancel()
	if m.node.IsLeader() && len(m.node.Members()) > 1 {
		if err := m.node.StepDown(ctx); err != nil {
			m.logger.Info("stopping without a handover", "error", err)
		}
	}
	return m.node.Close(ctx)
}

func (m *member) peerAddress(id string) (string, bool) {
	g := m.gossipNow.Load()
	if g == nil {
		return "", false
	}
	return g.PeerAddress(id)
}

// openGossip begins to listen and looks for the nodes that were heard last. It
// does not wait to find one: a cluster whose nodes all start again has to begin
// somewhere.
func (m *member) openGossip(ctx context.Context, bind string) error {
	g, err := cluster.StartGossip(cluster.GossipConfig{
		Key: m.id.GossipKey, Bind: bind, Advertise: m.cfg.Gossip.Advertise, Logger: m.logger.With("part", "gossip"),
		Changed: m.noteOthers,
		Meta: cluster.NodeMeta{ID: m.id.NodeID, PeerAddress: string(m.transport.LocalAddr()),
			APIAddress: m.cfg.API.Advertise, GossipAddress: gossipAddress(m.cfg.Gossip, bind), Version: Version},
	})
	if err != nil {
		return err
	}
	m.gossip = g
	m.gossipNow.Store(g)
	searching, stop := context.WithCancel(context.WithoutCancel(ctx))
	var search sync.WaitGroup
	search.Go(func() { m.findOthers(searching) })
	m.closeLater(func() error {
		stop()
		search.Wait()
		if err := g.Leave(); err != nil {
			// Nobody may be left to hear it; the others notice the silence.
			m.logger.Debug("leaving gossip", "error", err)
		}
		return nil
	})
	return nil
}

// gossipAddress is what others reach this node's gossip at.
func gossipAddress(cfg ListenConfig, bound string) string {
	if cfg.Advertise != "" {
		return cfg.Advertise
	}
	return bound
}

// others are the nodes that were heard of last.
func (m *member) others() []otherNode {
	m.heardMu.Lock()
	defer m.heardMu.Unlock()
	return m.lastHeard
}

// findOthers asks the known nodes until one answers.
func (m *member) findOthers(ctx context.Context) {
	var seeds []string
	for _, o := range m.others() {
		if o.Gossip != "" {
			seeds = append(seeds, o.Gossip)
		}
	}
	for len(seeds) > 0 && len(m.gossip.Members()) < 2 {
		if err := m.gossip.Join(ctx, seeds); err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// noteOthers keeps where others were heard, for the next start. Silence is no
// reason to forget.
func (m *member) noteOthers() {
	m.heardMu.Lock()
	defer m.heardMu.Unlock()
	g := m.gossipNow.Load()
	if g == nil {
		return
	}
	var others []otherNode
	for _, o := range g.Members() {
		if o.ID != m.id.NodeID {
			others = append(others, otherNode{ID: o.ID, Peer: o.PeerAddress, Gossip: o.GossipAddress})
		}
	}
	if len(others) == 0 || slices.Equal(others, m.lastHeard) {
		return
	}
	updated := *m.id
	updated.Others = others
	if err := updated.save(m.cfg.DataDir); err != nil {
		m.logger.Warn("could not keep the addresses of other nodes", "error", err)
		return
	}
	m.lastHeard = others
}

// repairTime bounds the search for another node's copy of a rotten log entry.
const repairTime = 10 * time.Second

// fetchEntry gets a committed log entry from another node (L11). It may be
// asked before the node knows its members, hence the nodes heard of last.
func (m *member) fetchEntry(index uint64) (*raft.Log, error) {
	ctx, cancel := context.WithTimeout(context.Background(), repairTime)
	defer cancel()
	var peers []cluster.Peer
	for _, o := range m.others() {
		peers = append(peers, cluster.Peer{ID: o.ID, Address: o.Peer})
	}
	m.logger.Warn("a log entry is damaged; fetching it from another node", "index", index)
	return cluster.FetchEntry(ctx, m.transport, peers, index)
}

func (m *member) openRooms() {
	clock := systemClock()
	p := core.NewPipeline(core.Options{
		Gate: m.gate, Ledger: ledger{m.node, m.machine}, Clock: clock, Rand: rand.Reader,
		Writable: (&diskGuard{dir: m.cfg.DataDir, clock: clock, free: vfs.FreeSpace}).writable,
	})
	m.rooms = &grpc.Rooms{
		Pipeline:  p,
		Secrets:   &kv.Engine{MaxValueBytes: m.cfg.Limits.MaxValueBytes, MaxPathBytes: m.cfg.Limits.MaxPathBytes},
		Leases:    core.NewLeases(p),
		Admission: core.NewAdmission(p, clock.Wall),
	}
	m.undoer = core.NewUndoer(p, m.logger.With("part", "undo"), core.Pace{})
	close(m.serving)
	m.startAnchors(p)
}

// diskGuard refuses writes while the disk is nearly full, before Raft itself
// cannot write and the node must stop. Reads go on.
type diskGuard struct {
	dir   string
	clock core.Clock
	free  vfs.SpaceChecker

	mu    sync.Mutex
	until time.Duration // how long the last look counts
	err   error
}

const (
	// leastFree is the space, in bytes, below which writes are refused: room
	// for a snapshot's growth and for the log until somebody comes to help.
	leastFree     = 128 << 20
	diskLookEvery = time.Second
)

func (d *diskGuard) writable() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.clock.Monotonic()
	if now < d.until {
		return d.err
	}
	d.until, d.err = now+diskLookEvery, nil
	free, _, err := d.free(d.dir)
	if err != nil {
		return nil // a disk that cannot be asked is no full disk; a failing one stops the log
	}
	if free < leastFree {
		d.err = &core.Error{Reason: conclavev1.Reason_REASON_DISK_FULL, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE,
			Message: fmt.Sprintf("this node's disk is nearly full: %d MiB are free, %d are needed for writes", free>>20, leastFree>>20),
			Hint:    "make room in the data directory's file system; reads go on"}
	}
	return d.err
}

// wipe removes what an unfinished founding left. Nothing in it was ever shown.
func wipe(dir string) error {
	var errs []error
	for _, name := range []string{stateDir, raftDir, snapshotDir} {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}
