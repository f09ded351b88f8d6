package cluster

import (
	"context"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/fsm"
)

// Machine is the replicated state machine as the node sees it. Apply, Snapshot
// and Restore are called by one goroutine; the other methods by any.
type Machine interface {
	// Apply applies entries in order, in one write. Entries at or below the
	// applied index are skipped and get no results. It returns one slice per
	// entry with one Result per batch of it. On an error the replica halts;
	// the error names the index. The entries' Data is not kept.
	Apply(entries []fsm.LogEntry) ([][]fsm.Result, error)
	// Applied tells the index and term of the last entry that the contents include.
	Applied() (index, term uint64)
	// Time is the highest log time applied.
	Time() fsm.LogTime
	// Snapshot returns a stable view; it is cheap and does not write.
	Snapshot() (fsm.Snapshot, error)
	// Restore replaces the contents by what r holds. It builds aside and swaps
	// only when r ended without error: after an error the old contents stand.
	Restore(r io.Reader) error
	// StateHash digests the contents at the applied index.
	StateHash() (index uint64, sum fsm.StateHash)
	// HashAt is the digest at index, a multiple of fsm.HashInterval, when the
	// machine still remembers it.
	HashAt(index uint64) (sum fsm.StateHash, ok bool)
	// NextExpiry is the log time at which the next lease expires.
	NextExpiry() (fsm.LogTime, bool)
	// Unfinished tells that cascades are left which a later entry must go on with.
	Unfinished() bool
}

// Clock is the node's time. Wall may jump; Monotonic never does: it is the time
// since a fixed moment, counted on.
type Clock interface {
	Wall() time.Time
	Monotonic() time.Duration
}

// A Peer is a node's identity and where it listens for other nodes.
type Peer struct {
	ID      string
	Address string
}

// RawBatch is a batch as fsm.EncodeBatch wrote it. Nobody changes its bytes.
type RawBatch = []byte

// ReplyCode tells what became of one forwarded batch.
type ReplyCode uint8

const (
	// ReplyDone: Result is the machine's answer.
	ReplyDone ReplyCode = 1
	// ReplyNotLeader: not proposed, because the asked node does not lead.
	ReplyNotLeader ReplyCode = 2
	// ReplyOverloaded: not proposed, because the leader's queue is full.
	ReplyOverloaded ReplyCode = 3
	// ReplyMalformed: not proposed, because the bytes are no batch.
	ReplyMalformed ReplyCode = 4
	// ReplyUnknown: handed to Raft, and nobody knows what became of it.
	ReplyUnknown ReplyCode = 5
)

// A Reply answers one forwarded batch.
type Reply struct {
	Code   ReplyCode
	Result fsm.Result
}

// Status is what a node tells another about itself.
type Status struct {
	//lint:ignore U1000 read by the codec
	_struct struct{} `codec:",toarray"`

	ID       string
	Term     uint64
	Applied  uint64 // the machine's applied index
	Last     uint64 // last index in the log
	Unsealed bool
	Leader   bool
	Version  string
}

// HashAnswer is a node's state hash at an asked index. Known is false when the
// node has not reached the index or has forgotten it.
type HashAnswer struct {
	//lint:ignore U1000 read by the codec
	_struct struct{} `codec:",toarray"`

	Known bool
	Sum   fsm.StateHash
}

// RawEntry is one committed log entry, for a node whose own copy has rotted.
type RawEntry struct {
	//lint:ignore U1000 read by the codec
	_struct struct{} `codec:",toarray"`

	Index      uint64
	Term       uint64
	Type       uint8 // raft.LogType
	Data       []byte
	Extensions []byte
}

// Handler answers the calls that other nodes make to this one. Its methods are
// called concurrently and keep to the context's deadline.
type Handler interface {
	// HandlePropose orders batches and answers each. An error means that none was.
	HandlePropose(ctx context.Context, batches []RawBatch) ([]Reply, error)
	// HandleReadIndex confirms leadership and returns the index to read at.
	HandleReadIndex(ctx context.Context) (uint64, error)
	// HandleStateHash returns the state hash at index.
	HandleStateHash(ctx context.Context, index uint64) (HashAnswer, error)
	// HandleFetchEntry returns the committed entry at index.
	HandleFetchEntry(ctx context.Context, index uint64) (RawEntry, error)
	// HandleStatus describes this node.
	HandleStatus(ctx context.Context) (Status, error)
	// HandleChange carries out a change, if this node leads.
	HandleChange(ctx context.Context, c Change) (ChangeAnswer, error)
	// HandleDeparture takes note that another voter has seen the leader gone.
	HandleDeparture(ctx context.Context, d Departure) error
	// HandleDeparted is called by the transport of this node, and by nobody over
	// the wire, when a connection to p has ended and p's host refuses another one:
	// its process has ended. It returns at once.
	HandleDeparted(p Peer)
}

// Caller makes the calls that a Handler answers. A call returns when the
// context ends at the latest. An error that is fsm.ErrNotDone proves that the
// request never left this node; after any other error the peer may have acted.
type Caller interface {
	Propose(ctx context.Context, to Peer, batches []RawBatch) ([]Reply, error)
	ReadIndex(ctx context.Context, to Peer) (uint64, error)
	StateHash(ctx context.Context, to Peer, index uint64) (HashAnswer, error)
	FetchEntry(ctx context.Context, to Peer, index uint64) (RawEntry, error)
	Status(ctx context.Context, to Peer) (Status, error)
	Change(ctx context.Context, to Peer, c Change) (ChangeAnswer, error)
	Departure(ctx context.Context, to Peer, d Departure) error
}

// Transport joins a node to the others: Raft's own messages with pre-vote, and
// the node-to-node calls. TimeoutNow reaches the node itself, too. transport/peer and clustertest implement it. The node
// never registers Raft's heartbeat handler with it (see DESIGN.md, L1).
type Transport interface {
	raft.Transport
	raft.WithPreVote
	Caller
	// Serve registers the handler of incoming calls; before it, and after
	// Serve(nil), calls are refused.
	Serve(h Handler)
}
