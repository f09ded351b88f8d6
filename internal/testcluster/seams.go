package testcluster

import (
	"context"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/storage/raftlog"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// Seams are the places between the rooms where a fault can be planted: for runs
// that plant one and expect a checker to find it. Nil leaves a place as it is. Each
// is asked once for each life of each node.
type Seams struct {
	// Ledger stands between the request path and the ledger.
	Ledger func(*Process, core.Ledger) core.Ledger
	// Machine stands between the consensus node and the machine, below the witness.
	Machine func(*Replica, cluster.Machine) cluster.Machine
	// Transport stands between the consensus node and the network, above the witness.
	Transport func(*Process, cluster.Transport) cluster.Transport
	// Log stands between the hardened log and its memory.
	Log func(*raftlog.Memory) raftlog.Inner
	// State stands between the state store and its files.
	State func(vfs.FS) vfs.FS
	// Repair changes an entry that another node gave for a rotten one.
	Repair func(*raft.Log) *raft.Log
	// Recorder stands between the request path and the audit log.
	Recorder func(core.Recorder) core.Recorder
	// Crash does to the log of a node without power what a disk that lies about its
	// syncs does.
	Crash func(*raftlog.Memory)
}

// A Trail is the audit log of one node, in memory, over all its lives. It keeps no
// more than which records there are. For concurrent use.
type Trail struct {
	mu    sync.Mutex
	kinds map[string][]audit.Type // by request; guarded by mu
	count int                     // guarded by mu
}

func newTrail() *Trail { return &Trail{kinds: map[string][]audit.Type{}} }

// Append implements core.Recorder.
func (t *Trail) Append(_ context.Context, e *audit.Entry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kinds[e.RequestID] = append(t.kinds[e.RequestID], e.Type)
	t.count++
	return nil
}

// Close implements core.Recorder. The records stay, for the next life of the node.
func (t *Trail) Close() error { return nil }

// Answered tells whether the answer to a request was recorded.
func (t *Trail) Answered(request string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.kinds[request], audit.TypeResponse) || slices.Contains(t.kinds[request], audit.TypeAccess)
}

// Records is how many records there are.
func (t *Trail) Records() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}
