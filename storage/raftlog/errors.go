package raftlog

import (
	"errors"
	"fmt"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

var (
	// ErrFailed is wrapped by every error that a [Store] returns after its first
	// write, fsync or integrity error. The outcome of the call that met
	// the error is unknown: the bytes may be on disk. The process should end.
	ErrFailed = errors.New("raft log has failed and takes no further call")

	// ErrClosed is returned by calls after Close.
	ErrClosed = errors.New("raft log is closed")

	// ErrRotten is wrapped when a stored entry or value is not what was
	// acknowledged: altered, unreadable, or missing between its neighbours.
	ErrRotten = errors.New("stored bytes are not what was written")

	// ErrAmnesia is wrapped by [Store.CheckAgainst] when the log or the stable
	// store lost what this node had acknowledged. A node in that state must not
	// vote: it returns as a new member (L10 in cluster/DESIGN.md).
	ErrAmnesia = errors.New("raft log lost acknowledged state")

	// ErrNewerFormat is wrapped when the store was written by a later release.
	ErrNewerFormat = errors.New("raft log has a newer format than this release reads")

	// ErrInUse is wrapped by [OpenBolt] when another process holds the file.
	ErrInUse = errors.New("another process uses the raft log")

	// ErrHole is wrapped when an append would leave a hole or overwrite: Raft's
	// picture of the log and the disk have parted (L8 in cluster/DESIGN.md).
	ErrHole = errors.New("raft log would not be contiguous")

	// ErrKeyNotFound is what Get and GetUint64 return for an absent key. It is
	// raft-boltdb's own value: hashicorp/raft recognises it by its text.
	ErrKeyNotFound = raftboltdb.ErrKeyNotFound
)

// RotError says which entry is rotten and why. It wraps [ErrRotten].
type RotError struct {
	Index  uint64
	Reason string // never contains stored bytes

	term      uint64 // the term once stored, when its own check still holds
	termKnown bool
}

// Error names the index and the reason.
func (e *RotError) Error() string {
	return fmt.Sprintf("reading raft log entry %d: %s", e.Index, e.Reason)
}

// Unwrap returns [ErrRotten].
func (e *RotError) Unwrap() error { return ErrRotten }
