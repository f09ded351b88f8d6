package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/conclave-secrets/conclave/storage/state"
)

// A Machine applies entries to a store and shows the result. Apply and Restore
// are called by one goroutine; everything else is safe for concurrent use.
//
// Invariant: the contents of the store are a function of the entries applied,
// whatever way they were grouped, and the applied index changes in the same
// write as the rows.
type Machine struct {
	store    *state.Store
	sessions *sessions // owned by the goroutine that applies

	mu         sync.Mutex
	meta       metaRow              // guarded by mu; as committed
	nextExpiry LogTime              // guarded by mu; 0: no lease
	hashes     map[uint64]StateHash // guarded by mu; at multiples of HashInterval
	cache      *rowCache            // guarded by mu; replaced with the state
	halted     error                // guarded by mu; set once
	view       *sharedView          // guarded by mu; nil until somebody looks
}

// keptHashes is how many state hashes a machine remembers.
const keptHashes = 64

// Open returns the machine whose state lies in store.
func Open(store *state.Store) (*Machine, error) {
	m := &Machine{store: store}
	if err := m.load(); err != nil {
		return nil, fmt.Errorf("opening state machine: %w", err)
	}
	return m, nil
}

// load reads what the machine keeps in memory from the store.
func (m *Machine) load() error {
	v, err := m.store.View()
	if err != nil {
		return err
	}
	meta, err := readMeta(v)
	var s *sessions
	if err == nil {
		s, err = loadSessions(v)
	}
	var next LogTime
	if err == nil {
		next, err = firstExpiry(v)
	}
	if err = errors.Join(err, v.Close()); err != nil {
		return err
	}
	m.sessions = s
	m.mu.Lock()
	defer m.mu.Unlock()
	m.meta, m.nextExpiry, m.hashes = *meta, next, map[uint64]StateHash{}
	m.cache = newRowCache(meta.Applied, cacheBytes)
	return m.dropView()
}

// Apply applies entries in order and commits them in one atomic write, which is
// not yet durable: after a crash the log is replayed from Applied. Entries at
// or below the applied index are skipped and have no results. There is one
// result for each batch of an entry.
//
// After an error nothing was committed, the machine is halted and every later
// call returns the same error: the replica must stop.
func (m *Machine) Apply(entries []LogEntry) ([][]Result, error) {
	m.mu.Lock()
	meta, halted, cache := m.meta, m.halted, m.cache
	m.mu.Unlock()
	if halted != nil {
		return nil, halted
	}
	txn, err := m.store.Begin()
	if err != nil {
		return nil, m.halt(meta.Applied, err)
	}
	t := newTx(txn, meta, cache)
	hashes := map[uint64]StateHash{}
	results := make([][]Result, len(entries))
	for i, e := range entries {
		if e.Index <= t.meta.Applied {
			continue
		}
		if boundary := e.Index - e.Index%HashInterval; boundary > t.meta.Applied && boundary < e.Index {
			hashes[boundary] = t.meta.stateHash()
		}
		if results[i], err = m.applyEntry(t, e); err != nil {
			return nil, errors.Join(m.halt(e.Index, err), txn.Discard())
		}
		if e.Index%HashInterval == 0 {
			hashes[e.Index] = t.meta.stateHash()
		}
	}
	return results, m.commit(t, hashes)
}

func (m *Machine) commit(t *tx, hashes map[uint64]StateHash) error {
	if err := t.store.Set(metaKey, encodeMeta(&t.meta)); err != nil {
		return errors.Join(m.halt(t.index, err), t.store.Discard())
	}
	next, err := m.expiryAfter(t)
	if err != nil {
		return errors.Join(m.halt(t.index, err), t.store.Discard())
	}
	t.cacheWrites()
	if err := t.store.Commit(); err != nil {
		return m.halt(t.index, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.meta, m.nextExpiry = t.meta, next
	for at, h := range hashes {
		m.hashes[at] = h
		delete(m.hashes, at-keptHashes*HashInterval)
	}
	return m.dropView()
}

func (m *Machine) expiryAfter(t *tx) (LogTime, error) {
	if t.leases {
		return firstExpiry(t.store)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nextExpiry, nil
}

func firstExpiry(from state.Reader) (at LogTime, err error) {
	c, err := from.Cursor([]byte{tableByExpiry}, []byte{tableByExpiry + 1})
	if err != nil {
		return 0, err
	}
	if c.Next() {
		if len(c.Key()) < 1+8 {
			return 0, errors.Join(fmt.Errorf("expiry index %w", errRow), c.Close())
		}
		at = LogTime(binary.BigEndian.Uint64(c.Key()[1:]))
	}
	return at, errors.Join(c.Err(), c.Close())
}

func (m *Machine) halt(index uint64, cause error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.halted = &HaltError{Index: index, Cause: cause}
	return m.halted
}

// Applied returns the index and term of the last entry applied.
func (m *Machine) Applied() (index, term uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.meta.Applied, m.meta.Term
}

// Time returns the log time: that of the newest entry applied.
func (m *Machine) Time() LogTime {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.meta.Time
}

// NextExpiry returns when the next lease is due to expire, if there is one.
func (m *Machine) NextExpiry() (LogTime, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nextExpiry, m.nextExpiry != 0
}

// Unfinished tells whether ends of leases wait for further entries: somebody
// should propose OpExpireLeases until it is false.
func (m *Machine) Unfinished() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.meta.QueueHead < m.meta.QueueNext
}

// StateHash returns the hash of the state and the applied index it belongs to.
func (m *Machine) StateHash() (index uint64, hash StateHash) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.meta.Applied, m.meta.stateHash()
}

// HashAt returns the state hash as it was at index, a multiple of HashInterval,
// if the machine passed it since it was opened and not long ago.
func (m *Machine) HashAt(index uint64) (StateHash, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.hashes[index]
	return h, ok
}

// Verify reads every row and compares the sum with the one that was kept while
// they were written. It finds rows that changed on disk or behind our back.
func (m *Machine) Verify() error {
	v, err := m.store.View()
	if err != nil {
		return err
	}
	meta, err := readMeta(v)
	var found sum
	if err == nil {
		found, err = sumRows(v)
	}
	if err = errors.Join(err, v.Close()); err != nil {
		return fmt.Errorf("verifying state: %w", err)
	}
	if found != meta.Sum {
		return fmt.Errorf("verifying state: the rows at index %d do not add up to their sum", meta.Applied)
	}
	return nil
}

// Flush makes the applied state durable.
func (m *Machine) Flush() error { return m.store.Flush() }

// Close closes the machine's last view. The store is the caller's to close.
func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dropView()
}

// Snapshot returns a stable image of the state.
func (m *Machine) Snapshot() (Snapshot, error) {
	v, err := m.store.View()
	if err != nil {
		return nil, err
	}
	meta, err := readMeta(v)
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return &image{view: v, meta: meta}, nil
}

// Restore replaces the state by the snapshot that r streams. The new state is
// built aside and swapped in, durably, when r has ended without error and the
// rows add up; until then, and after an error, the old state stays.
func (m *Machine) Restore(r io.Reader) error {
	if err := m.store.Replace(func(w *state.Writer) error { return readImage(r, w) }); err != nil {
		return fmt.Errorf("restoring snapshot: %w", err)
	}
	if err := m.load(); err != nil {
		return m.halt(0, err)
	}
	return nil
}
