package cluster

import (
	"container/heap"
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/fsm"
)

// applied is what the applier answers for one entry of ours.
type applied struct {
	term    uint64
	results []fsm.Result
}

// applier feeds committed entries to the machine. It implements
// raft.BatchingFSM and is called by the library's one applying goroutine.
type applier struct {
	machine Machine
	marks   *marks
	halt    func(error)
	members func(raft.Configuration, uint64)
	moved   chan struct{} // capacity 1: the machine's contents changed

	failed error // of the applying goroutine
}

// Apply implements raft.FSM.
func (a *applier) Apply(l *raft.Log) any { return a.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. It also gets configuration entries,
// which reach the machine without data.
func (a *applier) ApplyBatch(logs []*raft.Log) []any {
	answers := make([]any, len(logs))
	entries := make([]fsm.LogEntry, len(logs))
	for i, l := range logs {
		entries[i] = fsm.LogEntry{Index: l.Index, Term: l.Term}
		switch l.Type {
		case raft.LogCommand:
			entries[i].Data = l.Data
		case raft.LogConfiguration:
			a.members(raft.DecodeConfiguration(l.Data), l.Index)
		}
	}
	results, err := a.apply(entries)
	for i, l := range logs {
		if err != nil {
			answers[i] = err
			continue
		}
		answers[i] = applied{l.Term, results[i]}
	}
	return answers
}

// apply hands entries to the machine until it once failed: after that the
// contents must not move, whatever the library still sends.
func (a *applier) apply(entries []fsm.LogEntry) ([][]fsm.Result, error) {
	if a.failed != nil {
		return nil, a.failed
	}
	results, err := a.machine.Apply(entries)
	if err == nil && len(results) != len(entries) {
		err = fmt.Errorf("machine answered %d of %d entries", len(results), len(entries))
	}
	if err != nil {
		first, last := entries[0].Index, entries[len(entries)-1].Index
		a.failed = fmt.Errorf("applying entries %d to %d: %w", first, last, err)
		a.halt(a.failed)
		return nil, a.failed
	}
	index, _ := a.machine.Applied()
	a.marks.advance(index)
	poke(a.moved)
	return results, nil
}

// Snapshot implements raft.FSM.
func (a *applier) Snapshot() (raft.FSMSnapshot, error) {
	if a.failed != nil {
		return nil, a.failed
	}
	s, err := a.machine.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("taking snapshot: %w", err)
	}
	return stableView{s}, nil
}

// Restore implements raft.FSM.
func (a *applier) Restore(r io.ReadCloser) error {
	if a.failed != nil {
		return a.failed
	}
	if err := a.machine.Restore(r); err != nil {
		return fmt.Errorf("restoring snapshot: %w", err)
	}
	index, _ := a.machine.Applied()
	a.marks.advance(index)
	poke(a.moved)
	return nil
}

type stableView struct{ fsm.Snapshot }

// Persist implements raft.FSMSnapshot.
func (v stableView) Persist(sink raft.SnapshotSink) error { return copySnapshot(v.Snapshot, sink) }

// Release implements raft.FSMSnapshot.
func (v stableView) Release() { _ = v.Close() } // a view that was read or given up; nothing depends on it

// poke wakes the one goroutine that waits on ch, or leaves a note for it.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// marks lets goroutines wait until the machine has applied an index.
type marks struct {
	mu      sync.Mutex
	index   uint64
	waiting markHeap
}

type mark struct {
	index uint64
	done  chan struct{}
}

func (m *marks) advance(index uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index = max(m.index, index)
	for len(m.waiting) > 0 && m.waiting[0].index <= m.index {
		close(heap.Pop(&m.waiting).(mark).done)
	}
}

func (m *marks) at() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index
}

// wait blocks until index is applied, ctx ends or stop is closed.
func (m *marks) wait(ctx context.Context, stop <-chan struct{}, index uint64) error {
	m.mu.Lock()
	if m.index >= index {
		m.mu.Unlock()
		return nil
	}
	k := mark{index, make(chan struct{})}
	heap.Push(&m.waiting, k)
	m.mu.Unlock()
	select {
	case <-k.done:
		return nil
	case <-stop:
		m.drop(k)
		return ErrClosed
	case <-ctx.Done():
		m.drop(k)
		return fmt.Errorf("waiting for index %d, applied is %d: %w", index, m.at(), context.Cause(ctx))
	}
}

func (m *marks) drop(k mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.waiting {
		if m.waiting[i].done == k.done {
			heap.Remove(&m.waiting, i)
			return
		}
	}
}

// markHeap is a container/heap of marks, the lowest index first.
type markHeap []mark

func (h markHeap) Len() int           { return len(h) }
func (h markHeap) Less(i, j int) bool { return h[i].index < h[j].index }
func (h markHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *markHeap) Push(x any)        { *h = append(*h, x.(mark)) }
func (h *markHeap) Pop() any {
	old := *h
	k := old[len(old)-1]
	*h = old[:len(old)-1]
	return k
}
