package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// FileName is the name of the bbolt file that [Open] keeps in its directory.
const FileName = "raft.db"

// Inner is the store that a [Store] hardens: raft-boltdb, or [Memory] in
// simulation. When a write returns nil it must be durable and whole; a write of
// several entries must be one transaction. Absent keys are reported as
// [ErrKeyNotFound], absent entries as raft.ErrLogNotFound. The store does not
// retain what is passed to it and hands out slices it no longer uses.
type Inner interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

// Options configures a [Store]. Zero fields have the stated default.
type Options struct {
	// Inner is the store to harden. [New] requires it; [Open] provides bbolt. The
	// Store closes it.
	Inner Inner

	// Fail is called once, with an error wrapping [ErrFailed], at the first write,
	// fsync or integrity error. It runs before the call that met the error
	// returns (others may be refused while it runs), so it must not block and must
	// not call the Store; ending the process, or telling the goroutine that will,
	// is its job.
	Fail func(error)

	// Repair fetches a committed entry from a peer when the stored one is rotten.
	// Nil, or an error from it, means fail-stop. See [Store.SetRepair].
	Repair func(index uint64) (*raft.Log, error)

	// LastSnapshot returns the index of the newest whole snapshot, 0 if there is
	// none. It is asked when Raft appends behind a gap, which only a snapshot can
	// explain. It must not call the Store. Nil means that only the snapshot named
	// to [Store.CheckAgainst] explains a gap.
	LastSnapshot func() (uint64, error)

	// Logger receives what an operator must see. Default slog.Default().
	Logger *slog.Logger
}

// Store is a raft.LogStore and raft.StableStore that is safe for concurrent use.
// Every write is durable when it returns nil. After an error see [ErrFailed].
// It does not time its writes: cluster does that, for every store at once, and
// halts the node whose disk hangs (L5 in cluster/DESIGN.md).
//
// It is deliberately no raft.MonotonicLogStore, although its log never has holes
// (see [Store.StoreLogs]): Raft empties such a store whenever it installs a
// snapshot, and an installation that the network delivers late would take
// acknowledged entries behind the snapshot with it.
type Store struct {
	inner    Inner
	onFail   func(error)
	snapshot func() (uint64, error) // Options.LastSnapshot or nil
	logger   *slog.Logger
	repair   atomic.Pointer[func(uint64) (*raft.Log, error)]

	// turn is held by the one writer. It is a channel and not a mutex so that
	// those who wait for it leave when the Store fails, and Close gives up on a
	// write that hangs.
	turn chan struct{}

	// Owned by the holder of turn.
	votedTerm *uint64 // set by SetUint64(LastVoteTerm), waits for its candidate
	covered   uint64  // entries up to here are in a snapshot (CheckAgainst)

	closed   atomic.Bool
	failOnce sync.Once
	failed   chan struct{} // closed after cause is set
	cause    error
}

var (
	_ raft.LogStore    = (*Store)(nil)
	_ raft.StableStore = (*Store)(nil)
)

// Open opens or creates the log in dir, which must exist; o.Inner is ignored.
func Open(dir string, o Options) (*Store, error) {
	inner, err := OpenBolt(filepath.Join(dir, FileName))
	if err != nil {
		return nil, err
	}
	o.Inner = inner
	s, err := New(o)
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	return s, nil
}

// New hardens o.Inner. On an empty inner store it writes the format number; on
// one written by a later release it returns [ErrNewerFormat]. On error the
// caller still owns o.Inner.
func New(o Options) (*Store, error) {
	if o.Inner == nil {
		return nil, errors.New("opening raft log: no inner store given")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Store{
		inner:    o.Inner,
		onFail:   o.Fail,
		snapshot: o.LastSnapshot,
		logger:   o.Logger,
		turn:     make(chan struct{}, 1),
		failed:   make(chan struct{}),
	}
	s.SetRepair(o.Repair)
	if err := s.checkFormat(); err != nil {
		return nil, fmt.Errorf("opening raft log: %w", err)
	}
	return s, nil
}

// SetRepair replaces Options.Repair; nil removes it. The network usually starts
// after the log is open. The function must return an entry that is committed,
// and must not read it through [Store.GetLog] of a Store that would in turn ask
// here: peers serve it with [Store.Peek].
func (s *Store) SetRepair(repair func(index uint64) (*raft.Log, error)) {
	if repair == nil {
		s.repair.Store(nil)
		return
	}
	s.repair.Store(&repair)
}

// closePatience is how long Close waits for a write that hangs.
const closePatience = 5 * time.Second

// Close waits for an outstanding write, a few seconds at most, and closes the
// inner store. Further calls of Close return nil, all others [ErrClosed].
func (s *Store) Close() error {
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case s.turn <- struct{}{}:
	case <-patience.C:
		return fmt.Errorf("closing raft log: a write is still outstanding after %v", closePatience)
	}
	defer s.release()
	if s.closed.Swap(true) {
		return nil
	}
	if err := s.inner.Close(); err != nil {
		return fmt.Errorf("closing raft log: %w", err)
	}
	return nil
}
