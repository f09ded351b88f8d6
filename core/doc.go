// Package core is the request path, above the seal: it identifies who asks,
// runs the method of an engine in a transaction on a consistent view, seals what
// the method staged, turns what it read into guards, and commits.
//
// Every unsealed node does this for itself; the cluster only orders what comes
// out. Core knows the cluster through Ledger, which it declares, and transports
// not at all. Start at Pipeline; Gate holds the keys; DESIGN.md tells one read
// and one write from end to end.
package core

import (
	"context"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
)

// Ledger is the replicated state as core needs it. cluster.Node with its
// machine implements it.
type Ledger interface {
	// Propose commits a batch, exactly once however often it is retried
	// inside, and returns the machine's answer. An error is fsm.ErrNotDone or
	// fsm.ErrUnknown.
	Propose(ctx context.Context, b *fsm.Batch) (fsm.Result, error)
	// ReadIndex returns an index at or above everything acknowledged before
	// the call, confirmed by a quorum of voters.
	ReadIndex(ctx context.Context) (uint64, error)
	// WaitApplied returns when this node's machine has applied index.
	WaitApplied(ctx context.Context, index uint64) error
	// View shows what this node has applied.
	View() (*fsm.View, error)
}

// Clock is the node's monotonic time, for ages; log time comes from views.
type Clock interface {
	Monotonic() time.Duration
}

// The spaces of the record, version and lease tables. The numbers are part of
// the format on disk.
const (
	spaceSecret    fsm.Space = 0x10 // kv secrets and their settings
	spaceLease     fsm.Space = 0x11 // lease ids
	spaceToken     fsm.Space = 0x12 // tokens by keyed hash
	spaceReceipt   fsm.Space = 0x13 // answers kept for idempotency keys
	spaceAdmission fsm.Space = 0x14 // join tokens by keyed hash
	spaceAuthority fsm.Space = 0x15 // the cluster's certificate authority
	spaceMount     fsm.Space = 0x16 // the mount table
	spacePolicy    fsm.Space = 0x17 // policies by blinded name
	// 0x18 was used before and stays free
	spaceExpiry   fsm.Space = 0x19 // leases of records that go by themselves
	spaceWrapping fsm.Space = 0x1a // wrapped answers by keyed hash of their token
	spaceBatch    fsm.Space = 0x1b // no rows: what batch tokens are sealed to
	spacePassword fsm.Space = 0x1c // password policies by blinded name
)
