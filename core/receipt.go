package core

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// A receipt is the answer of a write, kept under its idempotency key in the
// same batch as the write, so that the write sent again is answered and not
// repeated. Receipts are owned by leases and vanish with them. One lease serves
// all receipts that a node writes in an epoch: a lease for each write would
// cost more than the write.

const (
	receiptEpoch = 10 * time.Minute
	// receiptTTL leaves the last receipt of an epoch its hour, and ten minutes.
	receiptTTL = time.Hour + 2*receiptEpoch
	// maxIdempotencyKey bounds a key, in bytes.
	maxIdempotencyKey = 128
)

// receipts hands out the lease of the epoch.
type receipts struct {
	ledger Ledger
	clock  Clock
	rand   io.Reader

	// turn is held by who grants a lease: the others need it, too. It is a
	// channel and not a mutex so that a caller's deadline ends its waiting.
	turn chan struct{}

	mu    sync.Mutex // never held while anything is asked
	lease fsm.Key    // nil: none yet
	since time.Duration
}

func newReceipts(ledger Ledger, clock Clock, rand io.Reader) *receipts {
	return &receipts{ledger: ledger, clock: clock, rand: rand, turn: make(chan struct{}, 1)}
}

// valid returns the lease of the epoch, or nil when it is time for another.
func (r *receipts) valid() fsm.Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lease == nil || r.clock.Monotonic()-r.since >= receiptEpoch {
		return nil
	}
	return r.lease
}

// current returns the lease for a receipt written now.
func (r *receipts) current(ctx context.Context) (fsm.Key, error) {
	if lease := r.valid(); lease != nil {
		return lease, nil
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the lease of receipts: %w: %w", fsm.ErrNotDone, context.Cause(ctx))
	}
	if lease := r.valid(); lease != nil { // somebody else was quicker
		return lease, nil
	}
	now := r.clock.Monotonic()
	lease := append(make(fsm.Key, 1, 17), make([]byte, 16)...)
	lease[0] = byte(spaceReceipt)
	if _, err := io.ReadFull(r.rand, lease[1:]); err != nil {
		return nil, fmt.Errorf("drawing a lease id: %w", err)
	}
	result, err := r.ledger.Propose(ctx, &fsm.Batch{Operations: []fsm.Operation{{
		Kind: fsm.OpGrantLease, Key: lease, TTL: receiptTTL, State: fsm.LeaseActive}}})
	if err != nil {
		// Nothing of the caller's request was sent yet: whether the lease
		// exists does not matter to it.
		return nil, fmt.Errorf("granting the lease of receipts: %w: %v", fsm.ErrNotDone, err)
	}
	if result.Code != fsm.Applied {
		return nil, refusedBatch(result.Reason)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lease, r.since = lease, now
	return lease, nil
}

// drop forgets a lease that has ended.
func (r *receipts) drop(lease fsm.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes.Equal(r.lease, lease) {
		r.lease = nil
	}
}

// receipt is the place of one request's answer within a transaction.
type receipt struct {
	key    fsm.Key
	lease  fsm.Key
	digest [sha256.Size]byte
	method string
	guard  int // which guard of the batch watches the lease
}

// newReceipt prepares the receipt of a request. The key belongs to the caller's
// token: nobody meets another's receipts.
func newReceipt(b *seal.Barrier, who *identity, method, idempotencyKey string, req proto.Message, lease fsm.Key) (*receipt, error) {
	if len(idempotencyKey) > maxIdempotencyKey {
		return nil, &engine.InvalidError{Why: fmt.Sprintf("the idempotency key is longer than %d bytes", maxIdempotencyKey)}
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("encoding request: %w", err)
	}
	key, err := hashedKey(b, spaceReceipt, "receipt", append(who.hash(), idempotencyKey...))
	if err != nil {
		return nil, err
	}
	return &receipt{key: key, lease: lease, method: method,
		digest: sha256.Sum256(append([]byte(method+"\x00"), encoded...)), guard: -1}, nil
}

// find returns the answer if the request was carried out before.
func (r *receipt) find(t *tx) (*storev1.Receipt, engine.Commit, error) {
	kept := &storev1.Receipt{}
	record, err := t.message(r.key, kept)
	if err != nil || record == nil {
		return nil, engine.Commit{}, err
	}
	if kept.Method != r.method || !bytes.Equal(kept.RequestDigest, r.digest[:]) {
		return nil, engine.Commit{}, refuse(conclavev1.Reason_REASON_IDEMPOTENCY_MISMATCH,
			"the idempotency key was used for another request", "use a new key for each request")
	}
	return kept, engine.Commit{Index: record.Revision, Time: record.Written.Time()}, nil
}

// keep stages the receipt beside the write, guarded to be the first.
func (r *receipt) keep(t *tx, resp proto.Message) error {
	t.guard(fsm.Guard{Kind: fsm.GuardRecord, Key: r.key}) // find may have put it there
	encoded, err := proto.Marshal(resp)
	if err != nil {
		return fmt.Errorf("encoding answer: %w", err)
	}
	r.guard = t.guard(fsm.Guard{Kind: fsm.GuardLease, Key: r.lease, Number: 1, State: fsm.LeaseActive})
	return t.putMessage(r.key, &storev1.Receipt{Method: r.method, RequestDigest: r.digest[:], Response: encoded}, r.lease)
}
