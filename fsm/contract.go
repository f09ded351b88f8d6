package fsm

import "io"

// HashInterval is the spacing, in Raft indexes, of the state hashes that a
// machine remembers for comparison between replicas.
const HashInterval = 1024

// A LogEntry is one entry of the Raft log on its way into the machine. Data
// holds an encoded Entry; it is empty for entries of the consensus itself
// (no-ops, membership), which only move the applied index.
type LogEntry struct {
	Index, Term uint64
	Data        []byte
}

// A Snapshot is a stable image of the whole state at Index. It stays readable
// while the machine goes on. The holder must Close it.
type Snapshot interface {
	Index() uint64
	// WriteTo streams the image in the snapshot format. It may be called once.
	io.WriterTo
	Close() error
}

// StateHash is a digest of the contents of all tables at an index. Machines
// that applied the same log have equal hashes at equal indexes.
type StateHash [32]byte
