package core

import (
	"context"
	"sync"
)

// lanes let one writer of a key at a time commit from this node. Writers of one
// secret guard each other's version number, so all but one of those that start
// together would conflict; in a lane they follow one another instead. Between
// nodes the guards decide.
type lanes struct {
	mu   sync.Mutex
	byID map[string]*lane
}

type lane struct {
	turn  chan struct{} // capacity 1: holds a token while the lane is taken
	users int           // guarded by lanes.mu
}

func newLanes() *lanes { return &lanes{byID: map[string]*lane{}} }

// enter waits for the lane of id and returns the way out of it. "" is no lane.
func (l *lanes) enter(ctx context.Context, id string) (leave func(), err error) {
	if id == "" {
		return func() {}, nil
	}
	l.mu.Lock()
	n := l.byID[id]
	if n == nil {
		n = &lane{turn: make(chan struct{}, 1)}
		l.byID[id] = n
	}
	n.users++
	l.mu.Unlock()

	done := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if n.users--; n.users == 0 {
			delete(l.byID, id)
		}
	}
	select {
	case n.turn <- struct{}{}:
		return func() { <-n.turn; done() }, nil
	case <-ctx.Done():
		done()
		return nil, ctx.Err()
	}
}
