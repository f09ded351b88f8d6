package client

import (
	"errors"
	"sync"
	"time"
)

var errClosed = errors.New("the client is closed")

// cooldown bounds: a node that failed is asked after the others for this long,
// doubling with each failure in a row.
const (
	cooldownFirst = 250 * time.Millisecond
	cooldownMost  = 15 * time.Second
)

// A pool is the set of nodes and the knowledge of which one served last.
// Safe for concurrent use.
type pool struct {
	nodes []*node // immutable

	mu      sync.Mutex
	current int // index of the node that served last
}

// order returns every node in the order to ask them: the one that served last,
// then those without a recent failure, then the rest. None is left out, so a
// node that came back is always found.
func (p *pool) order(now time.Time) []*node {
	p.mu.Lock()
	current := p.current
	p.mu.Unlock()

	var ready, cooling []*node
	for i := range p.nodes {
		n := p.nodes[(current+i)%len(p.nodes)]
		if n.cooling(now) {
			cooling = append(cooling, n)
		} else {
			ready = append(ready, n)
		}
	}
	return append(ready, cooling...)
}

func (p *pool) served(n *node) {
	n.mu.Lock()
	n.misses, n.retryAt = 0, time.Time{}
	n.mu.Unlock()

	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.nodes {
		if p.nodes[i] == n {
			p.current = i
		}
	}
}

func (n *node) cooling(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return now.Before(n.retryAt)
}

// missed notes that the node did not serve.
func (n *node) missed(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	wait := min(cooldownMost, cooldownFirst<<min(n.misses, 10))
	n.misses++
	n.retryAt = now.Add(wait)
}

func (p *pool) close() error {
	var errs []error
	for _, n := range p.nodes {
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}
