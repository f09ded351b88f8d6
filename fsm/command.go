package fsm

import (
	"errors"
	"fmt"
	"math"
	"time"
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
	// GuardBefore holds while log time has not reached Number. Key says for whom,
	// and does not count.
	GuardBefore GuardKind = 7
	// GuardTally holds while fewer than Number leases of the tally Key are alive, so
	// that a batch with this guard and one grant never makes them more.
	GuardTally GuardKind = 8
)

// A Guard is one condition of a batch. Which fields count depends on Kind.
type Guard struct {
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
	// lease Lease (may be empty), in Groups, carrying Value, and counted for Tally
	// (may be empty) while it is alive. State is LeaseActive, or LeasePending for a
	// lease with an Effect.
	OpGrantLease OperationKind = 20
	// OpRenewLease sets the expiry of Key to TTL from now, within its maximum,
	// and adds one to its generation.
	OpRenewLease OperationKind = 21
	// OpConfirmLease turns the pending lease Key active. A Value replaces the payload;
	// a TTL above 0 sets the expiry to TTL from now, within its maximum.
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
	// OpReleaseLease ends Key at once, and lets go of the leases that it owns:
	// they live on without an owner. It is refused for a lease that is not usable,
	// whose owners may have doomed what it owns, and for one with an outside effect.
	OpReleaseLease OperationKind = 28
	// OpPurgePrefix removes every record and every secret whose key starts with
	// Key, a bounded number of rows an entry; the machine goes on in later entries
	// until none is left. Nothing may be written there any more.
	OpPurgePrefix OperationKind = 29
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
	// Effect names the outside system on which a lease has an effect, which must be
	// undone before the lease may go. Nil: it has none.
	Effect Key
	Tally  Key
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
	// LeaseReleasing: not usable any more; its records are being removed, and what
	// leases it owns are let go.
	LeaseReleasing LeaseState = 5
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
	case LeaseReleasing:
		return "releasing"
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
	Code   ResultCode
	Index  uint64  // the Raft index of the entry that decided
	Time   LogTime // log time at that entry
	Guard  int     // Conflict: which guard failed
	Reason RefusedReason
}

// An Entry is what one Raft log entry of ours carries: the leader's time stamp
// and the batches that were waiting, each in its encoded form.
type Entry struct {
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
	// ErrStopped: the replica that was asked has stopped. It says nothing of the outcome
	// of a proposal; a read may be asked of another.
	ErrStopped = errors.New("the replica has stopped")
)

// formatCommand1 opens every encoded entry and batch: the format's number.
const formatCommand1 = 0x01

// EstimatedSize is about what b takes when encoded, in bytes, without encoding it.
func (b *Batch) EstimatedSize() int {
	size := 64
	for i := range b.Guards {
		size += 16 + len(b.Guards[i].Key)
	}
	for i := range b.Operations {
		o := &b.Operations[i]
		size += 32 + len(o.Key) + len(o.Value) + len(o.Lease) + len(o.Effect) + len(o.Tally) + 9*len(o.Numbers)
		for _, g := range o.Groups {
			size += 4 + len(g)
		}
	}
	return size
}

// EncodeBatch returns b in its durable form. The bytes are the caller's.
func EncodeBatch(b *Batch) []byte {
	w := &packer{append(make([]byte, 0, b.EstimatedSize()), formatCommand1)}
	w.array(batchFields)
	w.bytes(b.Session[:])
	w.uint(b.Sequence)
	w.uint(b.Answered)
	w.list(len(b.Guards), b.Guards == nil)
	for i := range b.Guards {
		b.Guards[i].pack(w)
	}
	w.list(len(b.Operations), b.Operations == nil)
	for i := range b.Operations {
		b.Operations[i].pack(w)
	}
	return w.p
}

func (g *Guard) pack(w *packer) {
	w.array(guardFields)
	w.uint(uint64(g.Kind))
	w.bytes(g.Key)
	w.uint(g.Revision)
	w.uint(g.Number)
	w.uint(uint64(g.State))
}

func (o *Operation) pack(w *packer) {
	w.array(operationFields)
	w.uint(uint64(o.Kind))
	w.bytes(o.Key)
	w.bytes(o.Value)
	w.bytes(o.Lease)
	w.uint(o.Number)
	w.list(len(o.Numbers), o.Numbers == nil)
	for _, n := range o.Numbers {
		w.uint(n)
	}
	w.int(int64(o.TTL))
	w.int(int64(o.MaxTTL))
	w.list(len(o.Groups), o.Groups == nil)
	for _, g := range o.Groups {
		w.bytes(g)
	}
	w.uint(uint64(o.State))
	w.bytes(o.Effect)
	w.bytes(o.Tally)
}

// How many fields the structures of format 1 have.
const (
	batchFields     = 5
	guardFields     = 5
	operationFields = 12
	entryFields     = 2
)

// arrayLimits bounds the arrays of a batch before anything is built for them.
type arrayLimits struct{ guards, operations, numbers, groups int }

var (
	// strictLimits is what ValidateBatch accepts.
	strictLimits = arrayLimits{MaxGuards, MaxOperations, MaxNumbers, MaxGroups}
	// readLimits is what the machine can read. They are wider, for a batch
	// that is in the log must not halt the machine for being large.
	readLimits = arrayLimits{4096, 4096, 4096, 4096}
)

// maxBatchesPerEntry is far above what a leader puts together.
const maxBatchesPerEntry = 1 << 16

// DecodeBatch parses what EncodeBatch wrote. The byte strings of the batch are
// slices of p, which must not change while the batch is in use.
func DecodeBatch(p []byte) (*Batch, error) { return decodeBatch(p, readLimits) }

func decodeBatch(p []byte, limits arrayLimits) (*Batch, error) {
	r, err := openCommand(p)
	if err != nil {
		return nil, fmt.Errorf("decoding batch: %w", err)
	}
	b := &Batch{}
	r.fields(batchFields)
	session := r.bytes()
	if len(session) != len(b.Session) {
		r.fail("a session id of %d bytes", len(session))
	}
	copy(b.Session[:], session)
	b.Sequence, b.Answered = r.uint(math.MaxUint64), r.uint(math.MaxUint64)
	if n := r.list(limits.guards); n > 0 {
		b.Guards = make([]Guard, n)
	}
	for i := range b.Guards {
		b.Guards[i].unpack(r)
	}
	if n := r.list(limits.operations); n > 0 {
		b.Operations = make([]Operation, n)
	}
	for i := range b.Operations {
		b.Operations[i].unpack(r, limits)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("decoding batch: %w", err)
	}
	return b, nil
}

func (g *Guard) unpack(r *unpacker) {
	r.fields(guardFields)
	g.Kind = GuardKind(r.uint(math.MaxUint8))
	g.Key = r.bytes()
	g.Revision, g.Number = r.uint(math.MaxUint64), r.uint(math.MaxUint64)
	g.State = LeaseState(r.uint(math.MaxUint8))
}

func (o *Operation) unpack(r *unpacker, limits arrayLimits) {
	r.fields(operationFields)
	o.Kind = OperationKind(r.uint(math.MaxUint8))
	o.Key, o.Value, o.Lease = r.bytes(), r.bytes(), r.bytes()
	o.Number = r.uint(math.MaxUint64)
	if n := r.list(limits.numbers); n > 0 {
		o.Numbers = make([]uint64, n)
	}
	for i := range o.Numbers {
		o.Numbers[i] = r.uint(math.MaxUint64)
	}
	o.TTL, o.MaxTTL = time.Duration(r.int()), time.Duration(r.int())
	if n := r.list(limits.groups); n > 0 {
		o.Groups = make([]Key, n)
	}
	for i := range o.Groups {
		o.Groups[i] = r.bytes()
	}
	o.State, o.Effect, o.Tally = LeaseState(r.uint(math.MaxUint8)), r.bytes(), r.bytes()
}

// EncodeEntry returns e in its durable form. The bytes are the caller's.
func EncodeEntry(e *Entry) []byte {
	size := 32
	for _, b := range e.Batches {
		size += 5 + len(b)
	}
	w := &packer{append(make([]byte, 0, size), formatCommand1)}
	w.array(entryFields)
	w.int(int64(e.Time))
	w.list(len(e.Batches), e.Batches == nil)
	for _, b := range e.Batches {
		w.bytes(b)
	}
	return w.p
}

// DecodeEntry parses what EncodeEntry wrote. The batches are slices of p, which
// must not change while the entry is in use.
func DecodeEntry(p []byte) (*Entry, error) {
	r, err := openCommand(p)
	if err != nil {
		return nil, fmt.Errorf("decoding entry: %w", err)
	}
	e := &Entry{}
	r.fields(entryFields)
	e.Time = LogTime(r.int())
	if n := r.list(maxBatchesPerEntry); n > 0 {
		e.Batches = make([][]byte, n)
	}
	for i := range e.Batches {
		e.Batches[i] = r.bytes()
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("decoding entry: %w", err)
	}
	return e, nil
}

// openCommand checks the format of an encoded entry or batch.
func openCommand(p []byte) (*unpacker, error) {
	if len(p) == 0 {
		return nil, fmt.Errorf("%w: it is empty", errEncoding)
	}
	if p[0] != formatCommand1 {
		return nil, fmt.Errorf("format %d is not one this version knows", p[0])
	}
	return &unpacker{p: p[1:]}, nil
}
