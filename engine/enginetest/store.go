package enginetest

import (
	"errors"
	"maps"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
)

var (
	// ErrConflict: something that the transaction read has changed since; nothing
	// of it was done.
	ErrConflict = errors.New("what was read has changed")
	// ErrRefused: what was staged is impossible on this state (a change of a
	// version that does not exist, a limit out of bounds); nothing of it was done.
	ErrRefused = errors.New("what was staged is impossible")
)

// What the state machine allows, which a transaction inherits.
const (
	defaultKeep = 10     // versions kept when a secret says nothing
	maxKeep     = 10_000 // versions that a secret may ask to keep
	maxNumbers  = 1024   // versions named in one change
	maxTTL      = 100 * 365 * 24 * time.Hour
)

// A Store is the reference: mounts of records and secrets in plain maps, with
// transactions that see one moment of them and commit together or not at all.
// It is small so that one can see that it is right; where the words of the
// contract leave a choice, it chooses what the state machine does:
//
//   - A transaction does not see what it staged itself.
//   - A read of a record is guarded by the record; a read of a head or of any
//     version, and AppendVersion, by the secret as a whole. Children guards
//     nothing, and neither does a write that read nothing.
//   - Children shows secrets, also those without a version yet, and no records;
//     Records shows records and no secrets.
//   - Limits take hold at the next append.
//
// Log time stands still but for Advance. A Store is safe for concurrent use.
type Store struct {
	mu  sync.Mutex
	now *moment // what it points to never changes
}

// place is a path of a mount.
type place struct{ mount, path string }

// A moment is everything there is at one index.
type moment struct {
	index   uint64
	time    time.Time
	records map[place]record
	secrets map[place]secret
}

type record struct {
	revision uint64 // index of the commit that wrote it
	value    []byte
	until    time.Time // zero: it has no end
	owner    string    // the token that it goes with; "": none
}

// record returns the record at a place, if it is there.
func (m *moment) record(at place) (record, bool) {
	r, ok := m.records[at]
	if !ok || !r.until.IsZero() && !m.time.Before(r.until) {
		return record{}, false
	}
	return r, true
}

type secret struct {
	revision uint64
	head     engine.Head
	versions map[uint64]engine.Version // Deleted is worked out when they are read
}

// NewStore returns an empty store at log time start.
func NewStore(start time.Time) *Store {
	return &Store{now: &moment{time: start, records: map[place]record{}, secrets: map[place]secret{}}}
}

// Fork returns another store with the same contents; what happens to one does
// not happen to the other.
func (s *Store) Fork() *Store { return &Store{now: s.moment()} }

// Advance moves log time forward.
func (s *Store) Advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	later := *s.now
	later.index++
	later.time = later.time.Add(d)
	s.now = &later
}

// Begin opens a transaction on the moment that is newest, for one mount.
func (s *Store) Begin(mount string) *Tx { return &Tx{store: s, mount: mount, view: s.moment()} }

// EndToken removes every record that goes with a token.
func (s *Store) EndToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.now.copy()
	maps.DeleteFunc(next.records, func(_ place, r record) bool { return r.owner == token })
	s.now = next
}

func (s *Store) moment() *moment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// copy returns a moment that may be changed, one index later.
func (m *moment) copy() *moment {
	next := &moment{index: m.index + 1, time: m.time, records: maps.Clone(m.records), secrets: maps.Clone(m.secrets)}
	for at, s := range next.secrets {
		s.versions = maps.Clone(s.versions)
		next.secrets[at] = s
	}
	return next
}

// commit checks the guards and does what is staged, all of it or nothing.
func (s *Store) commit(guards, staged []func(*moment) bool) (engine.Commit, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, holds := range guards {
		if !holds(s.now) {
			return engine.Commit{}, ErrConflict
		}
	}
	next := s.now.copy()
	for _, do := range staged {
		if !do(next) {
			return engine.Commit{}, ErrRefused
		}
	}
	s.now = next
	return engine.Commit{Index: next.index, Time: next.time}, nil
}

// Call answers one request over the store as core does over the ledger: one
// transaction, committed when the method writes, and the answer finished. It does
// not repeat a transaction that meets a conflict.
func Call[Req, Resp proto.Message](s *Store, mount string, m engine.Method[Req, Resp], req Req) (Resp, error) {
	tx := s.Begin(mount)
	resp, err := m.Handle(tx, req)
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		var none Resp
		return none, err
	}
	m.Finish(resp, tx.Committed())
	return resp, nil
}

// Harness returns the store as [TestTx] wants it.
func (s *Store) Harness() Harness { return storeHarness{s} }

type storeHarness struct{ *Store }

// Begin implements Harness.
func (h storeHarness) Begin(mount string) Transaction { return h.Store.Begin(mount) }

// BeginAs implements TokenHarness.
func (h storeHarness) BeginAs(mount, token string) Transaction {
	tx := h.Store.Begin(mount)
	tx.Token = token
	return tx
}
