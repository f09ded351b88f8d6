package cluster

import (
	"sync"
	"sync/atomic"
)

// An item is one encoded batch on its way. Its waiter may withdraw it until
// somebody has taken it; from then on it may have been proposed.
type item struct {
	raw    RawBatch
	state  atomic.Int32
	answer chan Reply // capacity 1, sent to once by whoever took it
}

const (
	itemWaiting int32 = iota
	itemTaken
	itemWithdrawn
)

func newItem(raw RawBatch) *item { return &item{raw: raw, answer: make(chan Reply, 1)} }

// withdraw reports whether the item will never be taken.
func (i *item) withdraw() bool { return i.state.CompareAndSwap(itemWaiting, itemWithdrawn) }

// queue holds items until one goroutine takes all that wait.
type queue struct {
	wake               chan struct{} // capacity 1
	maxItems, maxBytes int
	mu                 sync.Mutex
	items              []*item
	bytes              int
}

func newQueue(items, bytes int) *queue {
	return &queue{wake: make(chan struct{}, 1), maxItems: items, maxBytes: bytes}
}

// put reports false, and keeps nothing, when the queue is full.
func (q *queue) put(i *item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) >= q.maxItems || q.bytes+len(i.raw) > q.maxBytes && len(q.items) > 0 {
		return false
	}
	q.items = append(q.items, i)
	q.bytes += len(i.raw)
	poke(q.wake)
	return true
}

// take returns what waits, oldest first, at most entryBatches and, beyond the
// first, entryBytes.
func (q *queue) take() []*item {
	q.mu.Lock()
	defer q.mu.Unlock()
	var got []*item
	size, n := 0, 0
	for _, i := range q.items {
		if len(got) == entryBatches || len(got) > 0 && size+len(i.raw) > entryBytes {
			break
		}
		n++
		q.bytes -= len(i.raw)
		if i.state.CompareAndSwap(itemWaiting, itemTaken) {
			got = append(got, i)
			size += len(i.raw)
		}
	}
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	if rest > 0 {
		poke(q.wake)
	}
	return got
}

func answerAll(items []*item, code ReplyCode) {
	for _, i := range items {
		i.answer <- Reply{Code: code}
	}
}
