package clustertest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"io"
	"sync"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/fsm"
)

// Ledger is a small cluster.Machine in memory: records with revisions, record
// guards, leases that expire, and sessions that answer a repeated batch from
// memory. It is no substitute for fsm.Machine, only for what a node sees of it.
type Ledger struct {
	mu     sync.Mutex
	state  ledgerState
	hashes map[uint64]fsm.StateHash
	fail   error

	restores int
}

type ledgerState struct {
	Index, Term uint64
	Time        fsm.LogTime
	Hash        fsm.StateHash
	Records     map[string]Record
	Leases      map[string]fsm.LogTime
	Sessions    map[fsm.SessionID]map[uint64]fsm.Result
	Applied     int // batches that took effect
}

// Record is a value and the index of the entry that wrote it.
type Record struct {
	Revision fsm.Revision
	Value    []byte
}

var _ cluster.Machine = (*Ledger)(nil)

// NewLedger returns an empty machine.
func NewLedger() *Ledger {
	return &Ledger{hashes: map[uint64]fsm.StateHash{}, state: emptyState()}
}

func emptyState() ledgerState {
	return ledgerState{
		Records: map[string]Record{}, Leases: map[string]fsm.LogTime{},
		Sessions: map[fsm.SessionID]map[uint64]fsm.Result{},
	}
}

// Get returns the record at key as this replica has it.
func (l *Ledger) Get(key string) (Record, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.state.Records[key]
	return r, ok
}

// HasLease tells whether the lease id exists.
func (l *Ledger) HasLease(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.state.Leases[id]
	return ok
}

// Effects is how many batches of callers took effect: session openings, and entries
// that only move log time on, are the cluster's own.
func (l *Ledger) Effects() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Applied
}

// ForgetSessions makes every session unknown, as if all had expired. Only a
// test that does it on every replica at the same index keeps them equal.
func (l *Ledger) ForgetSessions() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.state.Sessions)
}

// Corrupt makes this replica's contents, and so its hash, differ from now on.
func (l *Ledger) Corrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Hash[0] ^= 1
}

// FailWith makes every later Apply fail with err.
func (l *Ledger) FailWith(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = err
}

// Apply implements cluster.Machine.
func (l *Ledger) Apply(entries []fsm.LogEntry) ([][]fsm.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([][]fsm.Result, len(entries))
	for i, e := range entries {
		if l.fail != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Index, l.fail)
		}
		if e.Index <= l.state.Index {
			continue
		}
		results, err := l.applyEntry(e)
		if err != nil {
			return nil, err
		}
		out[i] = results
	}
	return out, nil
}

func (l *Ledger) applyEntry(e fsm.LogEntry) ([]fsm.Result, error) {
	s := &l.state
	s.Index, s.Term = e.Index, e.Term
	head := binary.BigEndian.AppendUint64(s.Hash[:], e.Index)
	s.Hash = sha256.Sum256(append(head, e.Data...))
	if e.Index%fsm.HashInterval == 0 {
		l.hashes[e.Index] = s.Hash
	}
	if len(e.Data) == 0 {
		return nil, nil
	}
	entry, err := fsm.DecodeEntry(e.Data)
	if err != nil {
		return nil, fmt.Errorf("entry %d: %w", e.Index, err)
	}
	if entry.Time <= s.Time {
		return nil, fmt.Errorf("entry %d: log time %d does not follow %d", e.Index, entry.Time, s.Time)
	}
	s.Time = entry.Time
	results := make([]fsm.Result, len(entry.Batches))
	for i, raw := range entry.Batches {
		b, err := fsm.DecodeBatch(raw)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		results[i] = l.applyBatch(b)
	}
	return results, nil
}

func (l *Ledger) applyBatch(b *fsm.Batch) fsm.Result {
	s := &l.state
	r := fsm.Result{Code: fsm.Applied, Index: s.Index, Time: s.Time}
	if len(b.Operations) == 1 && b.Operations[0].Kind == fsm.OpOpenSession {
		if s.Sessions[b.Session] == nil {
			s.Sessions[b.Session] = map[uint64]fsm.Result{0: {}}
		}
		return r
	}
	answers := s.Sessions[b.Session]
	if answers == nil {
		r.Code = fsm.SessionUnknown
		return r
	}
	if old, ok := answers[b.Sequence]; ok {
		return old
	}
	if floor := answers[0].Index; b.Sequence < floor {
		r.Code = fsm.Forgotten
		return r
	}
	for q := range answers {
		if q != 0 && q < b.Answered {
			delete(answers, q)
		}
	}
	answers[0] = fsm.Result{Index: max(answers[0].Index, b.Answered)} // the floor
	r = l.effect(b, r)
	answers[b.Sequence] = r
	return r
}

// housekeeping tells whether the cluster made b by itself.
func housekeeping(b *fsm.Batch) bool {
	return len(b.Operations) == 1 && b.Operations[0].Kind == fsm.OpExpireLeases
}

func (l *Ledger) effect(b *fsm.Batch, r fsm.Result) fsm.Result {
	s := &l.state
	for i, g := range b.Guards {
		if g.Kind == fsm.GuardRecord && s.Records[string(g.Key)].Revision != g.Revision {
			r.Code, r.Guard = fsm.Conflict, i
			return r
		}
	}
	if !housekeeping(b) {
		s.Applied++
	}
	for _, o := range b.Operations {
		switch o.Kind {
		case fsm.OpPutRecord:
			s.Records[string(o.Key)] = Record{Revision: s.Index, Value: append([]byte{}, o.Value...)}
		case fsm.OpDeleteRecord:
			delete(s.Records, string(o.Key))
		case fsm.OpGrantLease:
			s.Leases[string(o.Key)] = s.Time.Add(o.TTL)
		case fsm.OpExpireLeases:
			for id, at := range s.Leases {
				if at <= s.Time {
					delete(s.Leases, id)
				}
			}
		}
	}
	return r
}

// Applied implements cluster.Machine.
func (l *Ledger) Applied() (uint64, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Index, l.state.Term
}

// Time implements cluster.Machine.
func (l *Ledger) Time() fsm.LogTime {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Time
}

// StateHash implements cluster.Machine.
func (l *Ledger) StateHash() (uint64, fsm.StateHash) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Index, l.state.Hash
}

// HashAt implements cluster.Machine.
func (l *Ledger) HashAt(index uint64) (fsm.StateHash, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, ok := l.hashes[index]
	return h, ok
}

// NextExpiry implements cluster.Machine.
func (l *Ledger) NextExpiry() (fsm.LogTime, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var next fsm.LogTime
	for _, at := range l.state.Leases {
		if next == 0 || at < next {
			next = at
		}
	}
	return next, next != 0
}

// Unfinished implements cluster.Machine: nothing ever is.
func (l *Ledger) Unfinished() bool { return false }

// Snapshot implements cluster.Machine.
func (l *Ledger) Snapshot() (fsm.Snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(&l.state); err != nil {
		return nil, err
	}
	return &image{&b, l.state.Index}, nil
}

// image is an encoded state.
type image struct {
	*bytes.Buffer
	index uint64
}

func (i *image) Index() uint64 { return i.index }
func (i *image) Close() error  { return nil }

// Restore implements cluster.Machine.
func (l *Ledger) Restore(r io.Reader) error {
	s := emptyState()
	if err := gob.NewDecoder(r).Decode(&s); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	l.restores++
	return nil
}

// Restores is how often the contents were replaced by a snapshot.
func (l *Ledger) Restores() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.restores
}
