package testcluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/fsm"
)

// Witness watches what every machine of a simulation applies, and holds the
// replicas to each other: at one index they must have applied the same entry and
// reached the same state, in all their lives. For concurrent use.
type Witness struct {
	mu       sync.Mutex
	entries  map[uint64]witnessed     // by index
	states   map[uint64]fsm.StateHash // by index, where an application ended
	newest   fsm.LogTime
	terms    map[uint64]bool
	termAt   map[uint64]uint64 // by index
	installs int
	conflict int
	wrong    []string
	canary   []byte
}

type witnessed struct {
	sum  [sha256.Size]byte // of term and data
	time fsm.LogTime       // 0: an entry of the consensus itself
}

func newWitness() *Witness {
	return &Witness{entries: map[uint64]witnessed{}, states: map[uint64]fsm.StateHash{}, terms: map[uint64]bool{}, termAt: map[uint64]uint64{}}
}

// Violations returns how replicas disagreed; empty is good.
func (w *Witness) Violations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.wrong)
}

// Entries is how many log entries some machine applied.
func (w *Witness) Entries() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.entries)
}

// Compared is at how many indexes the state hash was seen.
func (w *Witness) Compared() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.states)
}

// Terms is how many terms had an entry applied: leaders that got something done.
func (w *Witness) Terms() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.terms)
}

// term is the term of the entry that some machine applied at index.
func (w *Witness) term(index uint64) (term uint64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	term, ok = w.termAt[index]
	return term, ok
}

// Conflicts is how many batches lost a race, counted on every replica.
func (w *Witness) Conflicts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.conflict
}

// Installs is how many snapshots of a leader were installed.
func (w *Witness) Installs() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.installs
}

// Now is the highest log time that any machine has reached.
func (w *Witness) Now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest.Time()
}

// Times returns the log time at every index; an entry without one has that of
// the entry before. The slice is the caller's; its place 0 is zero.
func (w *Witness) Times() []fsm.LogTime {
	w.mu.Lock()
	defer w.mu.Unlock()
	var last uint64
	for i := range w.entries {
		last = max(last, i)
	}
	times := make([]fsm.LogTime, last+1)
	for i := uint64(1); i <= last; i++ {
		times[i] = max(times[i-1], w.entries[i].time)
	}
	return times
}

func (w *Witness) apply(node string, entries []fsm.LogEntry) error {
	for _, e := range entries {
		seen := witnessed{sum: sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, e.Term), e.Data...))}
		if len(e.Data) > 0 {
			entry, err := fsm.DecodeEntry(e.Data)
			if err != nil {
				return fmt.Errorf("witnessing entry %d: %w", e.Index, err)
			}
			seen.time = entry.Time
			w.scan(e.Index, e.Data)
		}
		w.note(node, e, seen)
	}
	return nil
}

// Canary has every entry searched for text: something that is only ever in values,
// which nobody may see outside the seal.
func (w *Witness) Canary(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.canary = []byte(text)
}

func (w *Witness) scan(index uint64, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.canary) > 0 && bytes.Contains(data, w.canary) {
		w.wrong = append(w.wrong, fmt.Sprintf("plaintext in the log entry at index %d", index))
	}
}

func (w *Witness) note(node string, e fsm.LogEntry, seen witnessed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	index := e.Index
	w.terms[e.Term], w.termAt[index] = true, e.Term
	if before, ok := w.entries[index]; ok && before != seen {
		w.wrong = append(w.wrong, fmt.Sprintf("%s applied another entry at index %d than was applied before", node, index))
		return
	}
	w.entries[index] = seen
	w.newest = max(w.newest, seen.time)
}

func (w *Witness) state(node string, index uint64, hash fsm.StateHash) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if before, ok := w.states[index]; ok && before != hash {
		w.wrong = append(w.wrong, fmt.Sprintf("%s has state %x at index %d, another replica %x", node, hash[:6], index, before[:6]))
		return
	}
	w.states[index] = hash
}

func (w *Witness) answered(results [][]fsm.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, entry := range results {
		for _, r := range entry {
			if r.Code == fsm.Conflict {
				w.conflict++
			}
		}
	}
}

func (w *Witness) installed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.installs++
}

// watchedMachine is a node's machine with the witness looking on.
type watchedMachine struct {
	cluster.Machine
	witness *Witness
	node    string
	runs    atomic.Bool // the node has started: a restore is one of a leader's snapshot
}

// Apply implements cluster.Machine.
func (m *watchedMachine) Apply(entries []fsm.LogEntry) ([][]fsm.Result, error) {
	from, _ := m.Applied()
	results, err := m.Machine.Apply(entries)
	if err != nil {
		return nil, err
	}
	fresh := slices.DeleteFunc(slices.Clone(entries), func(e fsm.LogEntry) bool { return e.Index <= from })
	if err := m.witness.apply(m.node, fresh); err != nil {
		return nil, err
	}
	m.witness.answered(results)
	index, hash := m.StateHash()
	m.witness.state(m.node, index, hash)
	return results, nil
}

// Restore implements cluster.Machine.
func (m *watchedMachine) Restore(r io.Reader) error {
	if err := m.Machine.Restore(r); err != nil {
		return err
	}
	if m.runs.Load() {
		m.witness.installed()
	}
	index, hash := m.StateHash()
	m.witness.state(m.node, index, hash)
	return nil
}
