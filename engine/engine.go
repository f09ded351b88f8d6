// Package engine is the contract of a secret engine: typed methods over a
// transaction that shows one mount's records, versions and leases in plaintext.
//
// An engine never sees a key, a blinded name, another mount, the network or
// consensus. What it writes is staged and commits together, or not at all; what
// it reads becomes a condition of that commit. Engines are siblings in folders
// below this one and do not know each other. Start reading at Tx and Method.
package engine

import (
	"time"

	"google.golang.org/protobuf/proto"
)

// Tx is a transaction on one mount, at one index. Paths are relative to the
// mount. Every record, head and version that was read is guarded: the commit
// fails, and the method runs again on a newer view, when any of it has changed.
// Names that Children listed are not. So a method must have no effect but through
// its Tx, and may run several times. A transaction does not see what it staged.
//
// After an error of Tx a method returns that error, unchanged.
type Tx interface {
	// Now is the log time of the view. It never jumps.
	Now() time.Time

	// Record returns a record's value, nil when there is none.
	Record(path Path) ([]byte, error)
	// PutRecord stages the value of a record.
	PutRecord(path Path, value []byte) error
	// PutExpiring stages the value of a record that goes by itself when ttl,
	// above zero, is over. To put it again sets a new time.
	PutExpiring(path Path, value []byte, ttl time.Duration) error
	// PutOwned stages the value of a record that goes with the caller's token.
	PutOwned(path Path, value []byte) error
	// DeleteRecord stages the removal of a record.
	DeleteRecord(path Path) error
	// Records lists the names of the records directly in a directory, as Children
	// does for secrets. Records whose time is over are not among them.
	Records(dir Path, after string, limit int) (names []string, more bool, err error)

	// Hash is a keyed hash of value, as text that may be a segment of a path. It
	// differs from mount to mount. What is looked up by its hash need not be kept.
	Hash(value string) (string, error)

	// Head describes the secret at path; nil when there is none.
	Head(path Path) (*Head, error)
	// Version opens version n of a secret; nil when it is not there.
	Version(path Path, n uint64) (*Version, error)
	// AppendVersion stages the next version and returns its number. With ttl
	// above zero it expires that long after the commit.
	AppendVersion(path Path, value []byte, ttl time.Duration) (uint64, error)
	// ChangeVersions stages a change of versions that exist.
	ChangeVersions(path Path, change Change, numbers []uint64) error
	// PurgeSecret stages the removal of a secret with all its versions.
	PurgeSecret(path Path) error
	// SetLimits stages how many versions a secret keeps; 0 is the default.
	SetLimits(path Path, keep uint64) error

	// Children lists the names directly in a directory, sorted, that follow
	// after, at most limit of them. A directory's name ends in a slash.
	Children(dir Path, after string, limit int) (names []string, more bool, err error)
}

// Change says what ChangeVersions does.
type Change uint8

const (
	Delete   Change = iota + 1 // hide; Undelete brings back
	Undelete                   // bring back what is not destroyed
	Destroy                    // remove the value for good
)

// Head describes a secret as a whole.
type Head struct {
	Current, Oldest uint64 // version numbers; Current 0: none was written yet
	Keep            uint64 // 0: the default
	Created         time.Time
	Updated         time.Time
}

// Version is one version of a secret, opened.
type Version struct {
	Created   time.Time
	DeletedAt time.Time // zero: never; it may lie ahead
	Deleted   bool      // DeletedAt has passed
	Destroyed bool
	Value     []byte // nil when deleted or destroyed
}

// Capability is what a policy must grant for a method.
type Capability string

// The capabilities, in the words of Vault's policies.
const (
	CapabilityRead   Capability = "read"
	CapabilityList   Capability = "list"
	CapabilityCreate Capability = "create"
	CapabilityUpdate Capability = "update"
	CapabilityDelete Capability = "delete"
)

// Commit is what is known of a method's transaction after it ended.
type Commit struct {
	Index uint64    // a read: the index it saw; a write: that of its entry
	Time  time.Time // the log time there
}

// Method is one call that an engine answers. It is a value, so that a table of
// methods can drive transports, policy checks and documentation.
type Method[Req, Resp proto.Message] struct {
	// Name is the full gRPC name of the method.
	Name       string
	Capability Capability
	// CapabilityOf is the capability that a request needs, where that is not always
	// the same; nil: Capability.
	CapabilityOf func(Req) Capability
	// Writes tells that the method stages changes.
	Writes bool
	// Path returns what the request is about, relative to the mount, as policies
	// name it.
	Path func(Req) string
	// Creates tells whether a write makes what is not there yet, which needs the
	// capability create and not update. Nil: it never does.
	Creates func(Tx, Req) (bool, error)
	// Serves refuses mounts that the method is not for, with an InvalidError. Nil: it
	// is for whatever mount it is asked about.
	Serves func(Mount) error
	// Handle answers within the transaction. It may run several times.
	Handle func(Tx, Req) (Resp, error)
	// Finish puts what only the commit tells into the answer.
	Finish func(Resp, Commit)
}
