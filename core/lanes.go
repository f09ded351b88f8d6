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

// turn is somebody's turn in a lane. One goroutine.
type turn struct {
	lanes *lanes
	id    string
	lane  *lane // nil: not in it
}

// enter waits for the lane of id. "" is no lane.
func (l *lanes) enter(ctx context.Context, id string) (*turn, error) {
	t := &turn{lanes: l, id: id}
	return t, t.again(ctx)
}

// again enters the lane anew, after leave.
func (t *turn) again(ctx context.Context) error {
	if t.id == "" {
		return nil
	}
	l := t.lanes.join(t.id)
	select {
	case l.turn <- struct{}{}:
		t.lane = l
		return nil
	case <-ctx.Done():
		t.lanes.part(t.id, l)
		return ctx.Err()
	}
}

// leave lets the next one in. It may be called when the turn is over already.
func (t *turn) leave() {
	if t.lane != nil {
		<-t.lane.turn
		t.lanes.part(t.id, t.lane)
		t.lane = nil
	}
}

// join is the lane of id, with one user more.
func (l *lanes) join(id string) *lane {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.byID[id]
	if n == nil {
		n = &lane{turn: make(chan struct{}, 1)}
		l.byID[id] = n
	}
	n.users++
	return n
}

func (l *lanes) part(id string, n *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(l.byID, id)
	}
}
