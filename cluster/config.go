package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// Config is what a node is made of. Zero means the stated default; fields
// without one are required.
type Config struct {
	// ID is the node's identity, born with its data directory and never reused.
	ID string
	// Version is told to other nodes; it decides nothing.
	Version string

	Machine   Machine
	Log       raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	Transport Transport
	// Addresses finds a member's present address; nil, or ok false: the
	// address in the membership. It must not block.
	Addresses func(id string) (address string, ok bool)

	// Removed is called, on a goroutine of its own, when this node learns that a
	// member was removed, whoever decided it: its connections should end. It must
	// return soon. Zero: nothing is done.
	Removed func()
	// Rumours tells a removed node that it was; nil: it must find out otherwise.
	Rumours Rumours

	Clock  Clock        // zero: the system's clock
	Rand   io.Reader    // zero: crypto/rand.Reader
	Logger *slog.Logger // zero: discards

	// Bootstrap starts a new cluster when the stores are empty, and is
	// ignored when they are not. Exactly one node of a cluster may do so,
	// or all of them with the same Voters.
	Bootstrap bool
	// Voters are the first members; zero: this node alone.
	Voters []Peer

	// Fatal is called once, on its own goroutine, when the replica had to halt.
	// Nothing is acknowledged any more; the process should end. Zero: only
	// logged; Halted tells it too.
	Fatal func(error)
	// Unsealed tells whether this node can open secrets, and so whether it is
	// preferred as leader. Zero: always.
	Unsealed func() bool
	// Lead runs while this node leads and has applied everything of earlier
	// leaders. It must return soon after its context ends; no second call
	// begins before it has.
	Lead func(ctx context.Context)

	// HeartbeatTimeout is how long a follower waits for its leader before it
	// asks for votes; also the election timeout. A killed leader costs writers
	// about 2.8 times this at the 99th percentile, a follower's
	// fsync longer than this costs an election. Zero: 300 ms.
	HeartbeatTimeout time.Duration
	// LeaderLease is how long a leader goes on without a quorum; at most
	// HeartbeatTimeout. It confirms no read. Zero: HeartbeatTimeout.
	LeaderLease time.Duration
	// CommitTimeout is how soon, at the earliest, an idle leader tells followers
	// the commit index of itself; a linearizable read tells it at once. Local
	// reads are at least this old after the last write. Zero: 50 ms.
	CommitTimeout time.Duration
	// RPCTimeout bounds one node-to-node call. Zero: 2 s.
	RPCTimeout time.Duration

	// SnapshotThreshold is how many entries may pass between snapshots. Zero: 8192.
	SnapshotThreshold uint64
	// SnapshotInterval is how often that is looked at. Zero: 30 s.
	SnapshotInterval time.Duration
	// SnapshotRetain is how many snapshots the store keeps. The log keeps
	// SnapshotRetain times SnapshotThreshold entries, so that the oldest
	// snapshot and the log always make the whole state (L10). Zero: 3, as in
	// storage/snapshot.
	SnapshotRetain int

	// DiskSlow is how long one write of the log may take before the node stops
	// speaking as a leader; DiskDead before it halts (L5). Zero: 2 s and 5 s.
	DiskSlow, DiskDead time.Duration

	// MaxBatch bounds one encoded batch, in bytes. Zero: 4 MiB.
	MaxBatch int
	// QueueBatches and QueueBytes bound what waits on this node. Zero: 4096
	// and 64 MiB.
	QueueBatches, QueueBytes int

	// PromoteLag and PromoteStable say when a non-voter becomes a voter: when
	// it was within PromoteLag entries for PromoteStable. Zero: 256 and 10 s.
	PromoteLag    uint64
	PromoteStable time.Duration
	// NoPromotion leaves promotion to the operator.
	NoPromotion bool
	// DeadAfter has the leader remove a member that has not answered it for so
	// long, counted from the start of its leadership at the earliest: one at a
	// time, while fewer than half of the voters are dead, a majority of the rest
	// is alive and caught up, and MinQuorum voters are left. A removed node does
	// not come back by itself. Zero: never.
	DeadAfter time.Duration
	// MinQuorum is how many voters DeadAfter leaves at least. Zero: 3.
	MinQuorum int
	// DutyInterval is the pace of the leader's slow duties: promotion, removal
	// and preference for unsealed voters. Zero: 1 s.
	DutyInterval time.Duration
	// HashInterval is how often the state is compared with the other members'.
	// Zero: 5 s; negative: never.
	HashInterval time.Duration
}

// entryBatches and entryBytes bound what shares one log entry (more in an
// entry, or more entries in flight, were measured to be slower).
const (
	entryBatches = 256
	entryBytes   = 1 << 20
)

// transferBound is how long TimeoutNow may take, and so how long a failed
// leadership transfer may refuse writes (L6).
const (
	transferBound = 300 * time.Millisecond
	transferStuck = 2 * time.Second
)

func (c *Config) fill() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.HeartbeatTimeout, 300*time.Millisecond)
	def(&c.LeaderLease, c.HeartbeatTimeout)
	def(&c.CommitTimeout, 50*time.Millisecond)
	def(&c.RPCTimeout, 2*time.Second)
	def(&c.SnapshotInterval, 30*time.Second)
	def(&c.DiskSlow, 2*time.Second)
	def(&c.DiskDead, 5*time.Second)
	def(&c.PromoteStable, 10*time.Second)
	def(&c.DutyInterval, time.Second)
	def(&c.HashInterval, 5*time.Second)
	if c.SnapshotThreshold == 0 {
		c.SnapshotThreshold = 8192
	}
	if c.SnapshotRetain == 0 {
		c.SnapshotRetain = 3
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = 4 << 20
	}
	if c.QueueBatches == 0 {
		c.QueueBatches = 4096
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = 64 << 20
	}
	if c.MinQuorum == 0 {
		c.MinQuorum = 3
	}
	if c.PromoteLag == 0 {
		c.PromoteLag = 256
	}
	c.fillSeams()
}

func (c *Config) fillSeams() {
	if c.Clock == nil {
		c.Clock = SystemClock()
	}
	if c.Rand == nil {
		c.Rand = systemRand
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Unsealed == nil {
		c.Unsealed = func() bool { return true }
	}
	if c.Removed == nil {
		c.Removed = func() {}
	}
	if c.Addresses == nil {
		c.Addresses = func(string) (string, bool) { return "", false }
	}
}

func (c *Config) validate() error {
	switch {
	case c.ID == "":
		return errors.New("configuring node: the id is empty")
	case c.Machine == nil, c.Log == nil, c.Stable == nil, c.Snapshots == nil, c.Transport == nil:
		return errors.New("configuring node: machine, log, stable store, snapshots and transport are required")
	case c.LeaderLease > c.HeartbeatTimeout:
		return fmt.Errorf("configuring node: leader lease %v exceeds the heartbeat timeout %v", c.LeaderLease, c.HeartbeatTimeout)
	case c.DiskDead <= c.DiskSlow:
		return fmt.Errorf("configuring node: disk dead %v is not after disk slow %v", c.DiskDead, c.DiskSlow)
	case c.DeadAfter < 0 || c.MinQuorum < 1:
		return fmt.Errorf("configuring node: members dead after %v, at least %d voters", c.DeadAfter, c.MinQuorum)
	case c.QueueBatches > sessionWindow:
		return fmt.Errorf("configuring node: %d batches in the queue, the session window is %d", c.QueueBatches, sessionWindow)
	}
	return nil
}

// raftConfig is the library's configuration for c. Pre-vote stays on. Apply's
// channel stays unbuffered (BatchApplyCh off): one entry is in flight at a time,
// so a buffer gains nothing, and without it a refused Apply proves that the
// entry was never proposed.
func (c *Config) raftConfig(notify chan<- bool) *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(c.ID)
	rc.HeartbeatTimeout = c.HeartbeatTimeout
	rc.ElectionTimeout = c.HeartbeatTimeout
	rc.LeaderLeaseTimeout = c.LeaderLease
	rc.CommitTimeout = c.CommitTimeout
	rc.MaxAppendEntries = 1024
	rc.SnapshotThreshold = c.SnapshotThreshold
	rc.SnapshotInterval = c.SnapshotInterval
	rc.TrailingLogs = c.SnapshotThreshold * uint64(c.SnapshotRetain)
	rc.ShutdownOnRemove = false
	rc.NotifyCh = notify
	rc.Logger = RaftLogger(c.Logger)
	rc.NoLegacyTelemetry = true
	return rc
}
