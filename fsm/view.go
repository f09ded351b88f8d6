package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/conclave-secrets/conclave/storage/state"
)

// A View is the whole state at one index. It is safe for concurrent use. The
// slices it returns are shared and must not be changed. Close it soon: it keeps old data on disk.
type View struct {
	shared *sharedView
	rows   reader
}

// sharedView lets all readers at one index share one view of the store.
type sharedView struct {
	machine *Machine
	view    *state.View
	meta    metaRow
	cache   *rowCache
	refs    int // guarded by machine.mu; the machine holds one while it is the newest
}

// View returns a view of everything applied.
func (m *Machine) View() (*View, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.view == nil {
		v, err := m.store.View()
		if err != nil {
			return nil, stopped(err)
		}
		// The store may be a commit ahead of m.meta; the row tells.
		meta, err := readMeta(v)
		if err != nil {
			return nil, errors.Join(stopped(err), v.Close())
		}
		m.view = &sharedView{machine: m, view: v, meta: *meta, cache: m.cache, refs: 1}
	}
	s := m.view
	s.refs++
	return &View{shared: s, rows: reader{cachedRows{s.view, s.cache, s.meta.Applied}, s.meta.Time}}, nil
}

// stopped marks what a store says that has failed or was closed: its replica stops,
// and another may be asked.
func stopped(err error) error {
	if errors.Is(err, state.ErrFailed) || errors.Is(err, state.ErrClosed) {
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return err
}

// dropView lets go of the newest view; m.mu is held.
func (m *Machine) dropView() error {
	s := m.view
	m.view = nil
	if s == nil {
		return nil
	}
	return s.release()
}

func (s *sharedView) release() error {
	s.refs--
	if s.refs > 0 {
		return nil
	}
	return s.view.Close()
}

// Close releases the view.
func (v *View) Close() error {
	m := v.shared.machine
	m.mu.Lock()
	defer m.mu.Unlock()
	return stopped(v.shared.release())
}

// Index is the applied index that the view shows.
func (v *View) Index() uint64 { return v.shared.meta.Applied }

// Time is the log time at that index.
func (v *View) Time() LogTime { return v.shared.meta.Time }

// FeatureLevel is the cluster's feature level at that index.
func (v *View) FeatureLevel() uint64 { return v.shared.meta.Level }

// Record returns the record at k, or nil when it is absent or its owning lease
// has ended.
func (v *View) Record(k Key) (*Record, error) { return v.rows.record(k) }

// Head returns what is known of the secret k as a whole, or nil.
func (v *View) Head(k Key) (*Head, error) { return v.rows.head(k) }

// Version returns version n of the secret k, or nil when it was never written
// or is gone.
func (v *View) Version(k Key, n uint64) (*Version, error) { return v.rows.version(k, n) }

// Lease returns the lease id whatever its state, or nil, and whether it is
// usable: alive itself and with all of its owners.
func (v *View) Lease(id Key) (l *Lease, usable bool, err error) {
	if l, err = v.rows.lease(id); err != nil || l == nil {
		return nil, false, err
	}
	alive, err := v.rows.liveLease(id)
	return l, alive != nil, err
}

// SpaceRevision returns the revision of the last write in a record space, for
// GuardSpaceUnchanged.
func (v *View) SpaceRevision(s Space) (Revision, error) { return v.rows.spaceRevision(s) }

// RangeRevision returns what GuardRange compares for a prefix of record keys.
func (v *View) RangeRevision(prefix Key) (count uint64, highest Revision, err error) {
	count, highest, err = rangeRevision(v.shared.view, prefix, v.Time(), MaxGuardedKeys)
	if err == nil && count > MaxGuardedKeys {
		err = fmt.Errorf("more than %d records: too many to guard as a range", MaxGuardedKeys)
	}
	return count, highest, stopped(err)
}

// Tally returns how many leases of a tally are alive, or have died so lately that no
// entry has ended them yet. It costs one read.
func (v *View) Tally(tally Key) (uint64, error) { return v.rows.count(tallyKey(tally)) }

// Undone returns how many leases wait for their effect on an outside system to be
// undone. It costs one read.
func (v *View) Undone(effect Key) (uint64, error) { return v.rows.count(undoneKey(effect)) }

// Waiting walks the ids of the leases whose effect on an outside system must be undone.
// The caller must Close it.
func (v *View) Waiting(effect Key) (*Keys, error) { return v.leasesOf(tableByEffect, effect) }

// Expiring walks the leases that are alive and whose expiry is until or before, the next
// to end first. Each key is the expiry, in eight bytes, and then the id: see
// SplitExpiring. The caller must Close it.
func (v *View) Expiring(until LogTime) (*Keys, error) {
	lower := []byte{tableByExpiry}
	return v.walk(lower, key(tableByExpiry, number(uint64(until)+1)), lower)
}

// Owned walks the ids of the leases that a lease owns itself. The caller must Close it.
func (v *View) Owned(owner Key) (*Keys, error) { return v.leasesOf(tableByOwner, owner) }

// leasesOf walks the ids of leases that an index lists under a name.
func (v *View) leasesOf(index byte, name Key) (*Keys, error) {
	if err := checkKey(name); err != nil {
		return nil, err
	}
	lower := key(index, counted(name))
	return v.walk(lower, state.After(lower), lower)
}

// SplitExpiring takes a key of Expiring apart; ok is false when it is none.
func SplitExpiring(k Key) (id Key, ok bool) {
	if len(k) <= 8 {
		return nil, false
	}
	return k[8:], true
}

// A Table is something with keys that can be walked.
type Table byte

// The tables that Keys can walk.
const (
	Records Table = tableRecord
	Secrets Table = tableHead
	Leases  Table = tableLease
	Tallies Table = tableTally  // names of tallies that are not 0
	Effects Table = tableUndone // names of outside systems on which something waits to be undone
)

// Keys walks the keys of a table that start with prefix, in order. The caller
// must Close it. Records and leases that are no longer alive are among them:
// look at the row before you believe the key.
func (v *View) Keys(table Table, prefix Key) (*Keys, error) {
	lower := key(byte(table), prefix)
	return v.walk(lower, state.After(lower), []byte{byte(table)})
}

// walk begins a walk over the rows from lower on and before upper. A key is what
// follows prefix in a row's.
func (v *View) walk(lower, upper, prefix []byte) (*Keys, error) {
	c, err := v.shared.view.Cursor(lower, upper)
	if err != nil {
		return nil, stopped(err)
	}
	return &Keys{c: c, prefix: prefix}, nil
}

// Keys is a walk over keys.
type Keys struct {
	c      *state.Cursor
	prefix []byte // of the rows, and no part of the keys
}

// Next moves to the next key; false at the end or on an error (see Close).
func (k *Keys) Next() bool { return k.c.Next() }

// Seek moves to the first key at or after to.
func (k *Keys) Seek(to Key) bool { return k.c.SeekGE(k.at(to)) }

// Skip moves to the first key that does not start with prefix.
func (k *Keys) Skip(prefix Key) bool {
	after := state.After(k.at(prefix))
	return after != nil && k.c.SeekGE(after)
}

// at is where the row of a key stands.
func (k *Keys) at(key Key) []byte { return slices.Concat(k.prefix, key) }

// Key returns the key at hand; it is the caller's.
func (k *Keys) Key() Key { return bytes.Clone(k.c.Key()[len(k.prefix):]) }

// Close ends the walk and returns what stopped it early, if anything.
func (k *Keys) Close() error { return stopped(errors.Join(k.c.Err(), k.c.Close())) }
