package raftlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// Memory is an [Inner] in memory for simulation. It copies what it stores and
// what it returns, can be made to hang, to fail and to rot, and survives a
// simulated power cut. It is safe for concurrent use.
type Memory struct {
	hooks sync.Mutex // guards the next two; never held while they run
	fault func(op string) error
	stall func()

	mu          sync.Mutex
	entries     map[uint64]raft.Log
	values      map[string][]byte
	first, last uint64 // 0, 0 when empty
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{entries: map[uint64]raft.Log{}, values: map[string][]byte{}}
}

// SetFault makes every operation ask f first; its error is returned and nothing
// is done. op is the method's name. A write asks a second time after it was
// applied, as "StoreLogs applied" for example: an error then is a write that is
// durable although it was reported as failed. Nil removes the hook.
func (m *Memory) SetFault(f func(op string) error) {
	m.hooks.Lock()
	defer m.hooks.Unlock()
	m.fault = f
}

// SetStall makes every write call f before it is applied; f returns when the
// disk answers again. Nil removes the hook.
func (m *Memory) SetStall(f func()) {
	m.hooks.Lock()
	defer m.hooks.Unlock()
	m.stall = f
}

// Crash returns the disk as a power cut leaves it now: everything acknowledged,
// nothing of a write that hangs in a stall. m itself becomes the memory of a
// dead process: it goes on answering, but nothing written to it reaches the
// returned store. Cut its network first.
func (m *Memory) Crash() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := NewMemory()
	next.first, next.last = m.first, m.last
	for i, e := range m.entries {
		next.entries[i] = cloneEntry(e)
	}
	for k, v := range m.values {
		next.values[k] = bytes.Clone(v)
	}
	return next
}

// Corrupt flips one bit of the stored entry at index: of its data or, if it has
// none, of its extensions. It tells whether there was a bit to flip.
func (m *Memory) Corrupt(index uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[index]
	for _, field := range [][]byte{e.Data, e.Extensions} {
		if len(field) > 0 {
			field[len(field)/2] ^= 0x10
			return true
		}
	}
	return false
}

// Lose removes the entry at index without moving the bounds of the log, as a
// rotten page would. It tells whether there was one.
func (m *Memory) Lose(index uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.entries[index]
	delete(m.entries, index)
	return ok
}

// FirstIndex implements raft.LogStore.
func (m *Memory) FirstIndex() (uint64, error) {
	if err := m.ask("FirstIndex"); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.first, nil
}

// LastIndex implements raft.LogStore.
func (m *Memory) LastIndex() (uint64, error) {
	if err := m.ask("LastIndex"); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, nil
}

// GetLog implements raft.LogStore.
func (m *Memory) GetLog(index uint64, log *raft.Log) error {
	if err := m.ask("GetLog"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[index]
	if !ok {
		return raft.ErrLogNotFound
	}
	*log = cloneEntry(e)
	return nil
}

// StoreLog implements raft.LogStore.
func (m *Memory) StoreLog(log *raft.Log) error { return m.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore: all entries or none.
func (m *Memory) StoreLogs(logs []*raft.Log) error {
	return m.apply("StoreLogs", func() {
		for _, l := range logs {
			m.entries[l.Index] = cloneEntry(*l)
			if m.first == 0 || l.Index < m.first {
				m.first = l.Index
			}
			m.last = max(m.last, l.Index)
		}
	})
}

// DeleteRange implements raft.LogStore.
func (m *Memory) DeleteRange(from, to uint64) error {
	return m.apply("DeleteRange", func() {
		if m.last == 0 || from > to {
			return
		}
		for i := max(from, m.first); i <= min(to, m.last); i++ {
			delete(m.entries, i)
		}
		switch {
		case from <= m.first && to >= m.last:
			m.first, m.last = 0, 0
		case from <= m.first:
			m.first = max(m.first, to+1)
		case to >= m.last:
			m.last = min(m.last, from-1)
		}
	})
}

// Set implements raft.StableStore.
func (m *Memory) Set(key, val []byte) error {
	return m.apply("Set", func() { m.values[string(key)] = append([]byte{}, val...) })
}

// Get implements raft.StableStore.
func (m *Memory) Get(key []byte) ([]byte, error) {
	if err := m.ask("Get"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	val, ok := m.values[string(key)]
	if !ok {
		return nil, ErrKeyNotFound
	}
	return bytes.Clone(val), nil
}

// SetUint64 implements raft.StableStore.
func (m *Memory) SetUint64(key []byte, val uint64) error {
	return m.Set(key, binary.BigEndian.AppendUint64(nil, val))
}

// GetUint64 implements raft.StableStore.
func (m *Memory) GetUint64(key []byte) (uint64, error) {
	val, err := m.Get(key)
	if err != nil {
		return 0, err
	}
	if len(val) != 8 {
		return 0, fmt.Errorf("reading %q from memory: %d bytes are no number", key, len(val))
	}
	return binary.BigEndian.Uint64(val), nil
}

// Close implements [Inner]. The content stays, for the next life of the node.
func (m *Memory) Close() error { return m.ask("Close") }

func (m *Memory) apply(op string, change func()) error {
	if err := m.ask(op); err != nil {
		return err
	}
	m.hooks.Lock()
	stall := m.stall
	m.hooks.Unlock()
	if stall != nil {
		stall()
	}
	m.mu.Lock()
	change()
	m.mu.Unlock()
	return m.ask(op + " applied")
}

func (m *Memory) ask(op string) error {
	m.hooks.Lock()
	fault := m.fault
	m.hooks.Unlock()
	if fault == nil {
		return nil
	}
	return fault(op)
}

func cloneEntry(e raft.Log) raft.Log {
	e.Data = bytes.Clone(e.Data)
	e.Extensions = bytes.Clone(e.Extensions)
	return e
}
