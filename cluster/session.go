package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/conclave-secrets/conclave/fsm"
)

// sessionWindow is how many sequences may lie between the oldest unanswered
// one and the newest. The machine remembers the answers of that many.
const sessionWindow = 4096

// A session is this process's identity towards the machine. A sequence is used
// for one batch only, however often that batch is sent.
type session struct {
	id fsm.SessionID

	mu    sync.Mutex
	next  uint64          // the next sequence to give out
	floor uint64          // every sequence below it was answered or given up
	ended map[uint64]bool // those at or above floor that were
}

func newSession(rand io.Reader) (*session, error) {
	s := &session{next: 1, floor: 1, ended: map[uint64]bool{}}
	if _, err := io.ReadFull(rand, s.id[:]); err != nil {
		return nil, fmt.Errorf("drawing session id: %w", err)
	}
	return s, nil
}

// begin gives out a sequence and the promise to send with it; ok is false when
// the window is full.
func (s *session) begin() (sequence, answered uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next-s.floor >= sessionWindow {
		return 0, 0, false
	}
	sequence = s.next
	s.next++
	return sequence, s.floor, true
}

// end says that sequence was answered, or that nobody will ask for its answer
// any more. A copy of it that still arrives is then refused by the machine.
func (s *session) end(sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended[sequence] = true
	for s.ended[s.floor] {
		delete(s.ended, s.floor)
		s.floor++
	}
}

// sessions holds the one session that is in use, and opens it once for all
// that wait for it.
type sessions struct {
	rand io.Reader
	// deliver orders an encoded batch, as Node.deliver does.
	deliver func(ctx context.Context, raw RawBatch) (delivery, error)

	turn    chan struct{} // capacity 1: who holds it opens
	mu      sync.Mutex
	current *session
}

func newSessions(rand io.Reader, deliver func(context.Context, RawBatch) (delivery, error)) *sessions {
	return &sessions{rand: rand, deliver: deliver, turn: make(chan struct{}, 1)}
}

func (s *sessions) inUse() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// lost gives up a session that the machine does not know any more.
func (s *sessions) lost(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == x {
		s.current = nil
	}
}

// get returns the open session. An error leaves every batch of the caller not done.
func (s *sessions) get(ctx context.Context) (*session, error) {
	if x := s.inUse(); x != nil {
		return x, nil
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the session: %w: %w", fsm.ErrNotDone, context.Cause(ctx))
	}
	defer func() { <-s.turn }()
	if x := s.inUse(); x != nil {
		return x, nil
	}
	x, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = x
	return x, nil
}

// open creates a session under a new id. When its outcome is unknown the id is
// dropped: nothing was sent under it, and the machine lets it expire.
func (s *sessions) open(ctx context.Context) (*session, error) {
	x, err := newSession(s.rand)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, fsm.ErrNotDone)
	}
	raw := fsm.EncodeBatch(&fsm.Batch{Session: x.id, Operations: []fsm.Operation{{Kind: fsm.OpOpenSession}}})
	d, err := s.deliver(ctx, raw)
	switch {
	case errors.Is(err, fsm.ErrUnknown):
		return nil, fmt.Errorf("opening session: no answer in time: %w", fsm.ErrNotDone)
	case err != nil:
		return nil, fmt.Errorf("opening session: %w", err)
	case d.result.Code != fsm.Applied:
		return nil, fmt.Errorf("opening session: code %d, %v: %w", d.result.Code, d.result.Reason, fsm.ErrNotDone)
	}
	return x, nil
}
