package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// A Key names a record, a secret or a lease. Its bytes are opaque here: the
// barrier has blinded whatever name the user gave. The first byte is the key's
// Space; a key is at least one and at most MaxKeySize bytes long.
type Key = []byte

// MaxKeySize bounds a key, in bytes. A path of MaxPathSize user bytes fits
// with room for the 16 bytes of blinding that each segment costs.
const MaxKeySize = 8 << 10

// A Space is the first byte of a key and groups the keys that change together
// (all policies, all mounts), so that one guard can watch the whole group. See
// GuardSpaceUnchanged.
type Space byte

// Revision is the Raft index of the entry that wrote something. 0 means that
// it never existed. Two batches in one entry share a revision; no view exists
// between them, so no guard can tell them apart wrongly.
type Revision = uint64

// LogTime is the replicated clock: nanoseconds since the Unix epoch, stamped
// into each entry by the leader. It never runs backwards.
type LogTime int64

// Time converts to a wall clock time in UTC, for showing to people.
func (t LogTime) Time() time.Time { return time.Unix(0, int64(t)).UTC() }

// Add returns the log time d later.
func (t LogTime) Add(d time.Duration) LogTime { return t + LogTime(d) }

// A SessionID names a proposer for as long as its process lives.
type SessionID [16]byte

// A Batch is the only thing that changes the state: guards that must all hold,
// then operations that are all done, or none. Within its session it carries a
// sequence number, so that the same batch proposed twice is applied once.
type Batch struct {
	//lint:ignore U1000 the codec reads its tag
	_struct struct{} `codec:",toarray"`

	Session  SessionID
	Sequence uint64 // 1, 2, 3, … in the session; 0 only together with OpOpenSession
	// Answered promises that the proposer has the answer of every sequence
	// below it, so that the machine may forget those answers.
	Answered uint64

	Guards     []Guard
	Operations []Operation
}

// GuardKind says what a Guard compares.
type GuardKind uint8

const (
	// GuardRecord holds while the record Key is at Revision (0: absent).
	GuardRecord GuardKind = 1
	// GuardRange holds while the records whose keys start with Key are Count
	// in number and Revision is the highest revision among them.
	GuardRange GuardKind = 2
	// GuardSpaceUnchanged holds while no record in the space Key[0] was
	// written or deleted after Revision.
	GuardSpaceUnchanged GuardKind = 3
	// GuardHead holds while the secret Key is at current version Number and
	// its head was last written at Revision (0 and 0: absent). With Revision 0
	// and Number > 0 only the number is compared.
	GuardHead GuardKind = 4
	// GuardLease holds while the lease Key is at generation Number and in
	// State, and log time has not reached its expiry.
	GuardLease GuardKind = 5
	// GuardLeaseAbsent holds while no lease has the id Key.
	GuardLeaseAbsent GuardKind = 6
)

// A Guard is one condition of a batch. Which fields count depends on Kind.
type Guard struct {
	//lint:ignore U1000 the codec reads its tag
	_struct struct{} `codec:",toarray"`

	Kind     GuardKind
	Key      Key
	Revision Revision
	Number   uint64
	State    LeaseState
}

// OperationKind says what an Operation does. The set is closed: a machine that
// meets a kind it does not know halts and names the index.
type OperationKind uint8

const (
	// OpPutRecord writes Value at Key; Lease, when set, owns the record.
	OpPutRecord OperationKind = 1
	// OpDeleteRecord removes Key; removing what is absent is no error.
	OpDeleteRecord OperationKind = 2

	// OpAppendVersion adds version Number to the secret Key; Number must be
	// the current version plus one (a GuardHead makes sure), because the value
	// is sealed to its number. TTL > 0 lets the version expire on log time.
	OpAppendVersion OperationKind = 10
	// OpDeleteVersions marks Numbers of Key deleted (soft; undelete mends it).
	OpDeleteVersions OperationKind = 11
	// OpUndeleteVersions takes the mark off again.
	OpUndeleteVersions OperationKind = 12
	// OpDestroyVersions removes the values of Numbers for good.
	OpDestroyVersions OperationKind = 13
	// OpPurgeSecret removes Key with its head and every version.
	OpPurgeSecret OperationKind = 14
	// OpSetLimits sets how many versions Key keeps (Number; 0: the default).
	OpSetLimits OperationKind = 15

	// OpGrantLease creates the lease Key with TTL and MaxTTL, owned by the
	// lease Lease (may be empty), in Groups, carrying Value. State is
	// LeaseActive, or LeasePending for a lease with an outside effect.
	OpGrantLease OperationKind = 20
	// OpRenewLease sets the expiry of Key to TTL from now, within its maximum,
	// and adds one to its generation.
	OpRenewLease OperationKind = 21
	// OpConfirmLease turns the pending lease Key active. A Value replaces the payload.
	OpConfirmLease OperationKind = 22
	// OpRevokeLease ends Key: at once, or, with an outside effect, by turning
	// it to revoking until OpEndLease.
	OpRevokeLease OperationKind = 23
	// OpEndLease removes the revoking lease Key: its outside effect is undone.
	// When rows that it owned are still on the queue, the lease goes after them.
	OpEndLease OperationKind = 24
	// OpRevokeGroup ends every lease in the group Key, a bounded number an
	// entry; the machine goes on in later entries until none is left. Leases
	// granted by later entries are spared; those granted in the same entry,
	// even by a later batch or operation, are not.
	OpRevokeGroup OperationKind = 25
	// OpRevokePrefix ends every lease whose id starts with Key, likewise.
	OpRevokePrefix OperationKind = 27
	// OpExpireLeases ends up to Number leases whose expiry log time has
	// passed, and goes on with ends that earlier entries left unfinished.
	OpExpireLeases OperationKind = 26

	// OpOpenSession creates the session Session of the batch.
	OpOpenSession OperationKind = 30
	// OpCloseSession forgets the session Session of the batch.
	OpCloseSession OperationKind = 31
	// OpSetFeatureLevel raises the cluster's feature level to Number.
	OpSetFeatureLevel OperationKind = 32
)

// An Operation is one change of a batch. Which fields count depends on Kind.
type Operation struct {
	//lint:ignore U1000 the codec reads its tag
	_struct struct{} `codec:",toarray"`

	Kind    OperationKind
	Key     Key
	Value   []byte
	Lease   Key
	Number  uint64
	Numbers []uint64
	TTL     time.Duration
	MaxTTL  time.Duration
	Groups  []Key
	State   LeaseState
	// External marks a lease with an outside effect, which must be undone
	// before the lease may go.
	External bool
}

// LeaseState tells where a lease stands in its life.
type LeaseState uint8

const (
	// LeasePending: the intent is committed, the outside effect may or may not exist.
	LeasePending LeaseState = 1
	// LeaseActive: usable until it expires or is revoked.
	LeaseActive LeaseState = 2
	// LeaseRevoking: not usable any more; waits until the outside effect is undone.
	LeaseRevoking LeaseState = 3
	// LeaseEnding: not usable any more; what it owns is being removed.
	LeaseEnding LeaseState = 4
)

func (s LeaseState) String() string {
	switch s {
	case LeasePending:
		return "pending"
	case LeaseActive:
		return "active"
	case LeaseRevoking:
		return "revoking"
	case LeaseEnding:
		return "ending"
	}
	return fmt.Sprintf("LeaseState(%d)", uint8(s))
}

// ResultCode tells what became of a batch.
type ResultCode uint8

const (
	// Applied: every guard held and every operation was done.
	Applied ResultCode = 1
	// Conflict: guard number Result.Guard failed; nothing was done.
	Conflict ResultCode = 2
	// Refused: an operation cannot be done on this state (Result.Reason says
	// why); nothing was done.
	Refused ResultCode = 3
	// SessionUnknown: the session expired or never was; nothing was done by
	// this entry, but an earlier proposal of the same batch may have been.
	SessionUnknown ResultCode = 4
	// Forgotten: the sequence is one whose answer the proposer said it has.
	Forgotten ResultCode = 5
)

// RefusedReason says why a batch was Refused.
type RefusedReason uint8

const (
	RefusedNone           RefusedReason = 0
	RefusedVersionUnknown RefusedReason = 1 // no such version of the secret
	RefusedSecretUnknown  RefusedReason = 2 // no such secret
	RefusedLeaseUnknown   RefusedReason = 3 // no such lease, or it has ended
	RefusedLeaseExists    RefusedReason = 4
	RefusedLeaseState     RefusedReason = 5 // the lease, or its depth below its owners, does not allow this
	RefusedLeaseExpired   RefusedReason = 6 // kept free: a renewal at its maximum is cut to it, one past it finds no lease
	RefusedMalformed      RefusedReason = 7 // the operation makes no sense; a bug in the proposer
	// RefusedSequenceWindow: too many unanswered sequences in the session. The
	// one answer that is not kept, for there is no room: the same batch may
	// still be applied when it arrives again. Proposers keep a smaller window.
	RefusedSequenceWindow RefusedReason = 8
	RefusedDestroyed      RefusedReason = 9 // the version was destroyed
)

func (r RefusedReason) String() string {
	switch r {
	case RefusedVersionUnknown:
		return "no such version"
	case RefusedSecretUnknown:
		return "no such secret"
	case RefusedLeaseUnknown:
		return "no such lease"
	case RefusedLeaseExists:
		return "the lease exists already"
	case RefusedLeaseState:
		return "the lease is in another state"
	case RefusedLeaseExpired:
		return "the lease is at its maximum"
	case RefusedMalformed:
		return "malformed operation"
	case RefusedSequenceWindow:
		return "too many unanswered batches in the session"
	case RefusedDestroyed:
		return "the version is destroyed"
	}
	return fmt.Sprintf("RefusedReason(%d)", uint8(r))
}

// A Result is the machine's answer to one batch. The same batch proposed again
// gets the same Result.
type Result struct {
	//lint:ignore U1000 the codec reads its tag
	_struct struct{} `codec:",toarray"`

	Code   ResultCode
	Index  uint64  // the Raft index of the entry that decided
	Time   LogTime // log time at that entry
	Guard  int     // Conflict: which guard failed
	Reason RefusedReason
}

// An Entry is what one Raft log entry of ours carries: the leader's time stamp
// and the batches that were waiting, each in its encoded form.
type Entry struct {
	//lint:ignore U1000 the codec reads its tag
	_struct struct{} `codec:",toarray"`

	Time    LogTime
	Batches [][]byte
}

// The outcome of a proposal is one of three: done (a Result and no error), not
// done (an error that is ErrNotDone), or unknown (an error that is ErrUnknown).
// An error that is neither is a bug.
var (
	// ErrNotDone: the batch was never and will never be applied.
	ErrNotDone = errors.New("not done")
	// ErrUnknown: the batch may have been applied, or may yet be. Proposing it
	// again under its idempotency key resolves it.
	ErrUnknown = errors.New("outcome unknown")
)

// formatCommand1 opens every encoded entry and batch: the format's number.
const formatCommand1 = 0x01

// maxDecode bounds what a decoder allocates from lengths it reads.
const maxDecode = 64 << 20

var handle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.MaxInitLen = 4096
	h.ErrorIfNoField = true
	h.ErrorIfNoArrayExpand = true
	return h
}()

// EncodeBatch returns b in its durable form. The bytes are the caller's.
func EncodeBatch(b *Batch) []byte { return encode(b) }

// DecodeBatch parses what EncodeBatch wrote. The batch aliases nothing in p.
func DecodeBatch(p []byte) (*Batch, error) {
	var b Batch
	if err := decode(p, &b, batchLimits); err != nil {
		return nil, fmt.Errorf("decoding batch: %w", err)
	}
	return &b, nil
}

// EncodeEntry returns e in its durable form. The bytes are the caller's.
func EncodeEntry(e *Entry) []byte { return encode(e) }

// DecodeEntry parses what EncodeEntry wrote.
func DecodeEntry(p []byte) (*Entry, error) {
	var e Entry
	if err := decode(p, &e, entryLimits); err != nil {
		return nil, fmt.Errorf("decoding entry: %w", err)
	}
	return &e, nil
}

func encode(v any) []byte {
	var buf bytes.Buffer
	buf.WriteByte(formatCommand1)
	if err := codec.NewEncoder(&buf, handle).Encode(v); err != nil {
		// The types above always encode; a failure is a programming error.
		panic(fmt.Sprintf("fsm: encoding %T: %v", v, err))
	}
	return buf.Bytes()
}

func decode(p []byte, v any, limits frameLimits) error {
	if len(p) == 0 || len(p) > maxDecode {
		return fmt.Errorf("length %d is outside 1..%d", len(p), maxDecode)
	}
	if p[0] != formatCommand1 {
		return fmt.Errorf("format %d is not one this version knows", p[0])
	}
	if err := checkFrame(p[1:], limits); err != nil {
		return err
	}
	d := codec.NewDecoderBytes(p[1:], handle)
	if err := d.Decode(v); err != nil {
		return err
	}
	if n := d.NumBytesRead(); n != len(p)-1 {
		return fmt.Errorf("%d bytes follow the value", len(p)-1-n)
	}
	return nil
}
