package fabric

import (
	"container/heap"
	"sync"
	"time"
)

// A queue holds parcels until they are due.
type queue struct {
	mu      sync.Mutex
	waiting parcels       // guarded by mu
	added   uint64        // guarded by mu
	wake    chan struct{} // of capacity 1: something is due earlier than before
	stop    chan struct{}
	done    sync.WaitGroup
}

func newQueue() *queue {
	q := &queue{wake: make(chan struct{}, 1), stop: make(chan struct{})}
	q.done.Go(q.run)
	return q
}

func (q *queue) add(p *parcel) {
	q.mu.Lock()
	q.added++
	p.order = q.added
	heap.Push(&q.waiting, p)
	first := q.waiting[0] == p
	q.mu.Unlock()
	if !first {
		return
	}
	select {
	case q.wake <- struct{}{}:
	default: // it is awake
	}
}

// next takes a parcel that is due, or tells how long to wait.
func (q *queue) next() (*parcel, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return nil, time.Hour
	}
	if wait := time.Until(q.waiting[0].due); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&q.waiting).(*parcel), 0
}

func (q *queue) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		p, wait := q.next()
		if p != nil {
			p.deliver()
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-q.wake:
		case <-q.stop:
			return
		}
	}
}

func (q *queue) close() {
	close(q.stop)
	q.done.Wait()
}

// parcels is a heap by due time, then by arrival.
type parcels []*parcel

func (p parcels) Len() int { return len(p) }
func (p parcels) Less(i, j int) bool {
	if p[i].due.Equal(p[j].due) {
		return p[i].order < p[j].order
	}
	return p[i].due.Before(p[j].due)
}
func (p parcels) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *parcels) Push(x any)   { *p = append(*p, x.(*parcel)) }
func (p *parcels) Pop() any {
	all := *p
	last := all[len(all)-1]
	all[len(all)-1] = nil
	*p = all[:len(all)-1]
	return last
}
