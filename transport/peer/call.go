package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/fsm"
)

// Methods of "conclave-node/1". A number is never used again.
const (
	methodPropose    = 1
	methodReadIndex  = 2
	methodStateHash  = 3
	methodFetchEntry = 4
	methodStatus     = 5
	methodChange     = 6
	methodDeparture  = 7
)

// Statuses of an answer.
const (
	statusOK           = 0
	statusFailed       = 1 // it may have been acted on
	statusNotLeader    = 2
	statusEntryUnknown = 3
	statusRefused      = 4 // it was not acted on
)

var (
	errRefused = fmt.Errorf("peer refuses calls: %w", fsm.ErrNotDone)
	errMethod  = fmt.Errorf("method not known: %w", fsm.ErrNotDone)
	errRequest = fmt.Errorf("request cannot be read: %w", fsm.ErrNotDone)
	errGone    = errors.New("connection to peer ended")
)

func statusOf(err error) byte {
	switch {
	case err == nil:
		return statusOK
	case errors.Is(err, cluster.ErrNotLeader):
		return statusNotLeader
	case errors.Is(err, cluster.ErrEntryUnknown):
		return statusEntryUnknown
	case errors.Is(err, fsm.ErrNotDone):
		return statusRefused
	}
	return statusFailed
}

// remoteError makes an answer's status into the error it was.
func remoteError(id string, f frame) error {
	text := string(f.body[:min(len(f.body), 512)])
	switch f.kind {
	case statusNotLeader:
		return fmt.Errorf("node %s: %w", id, cluster.ErrNotLeader)
	case statusEntryUnknown:
		return fmt.Errorf("node %s: %w", id, cluster.ErrEntryUnknown)
	case statusRefused:
		return fmt.Errorf("node %s: %s: %w", id, text, fsm.ErrNotDone)
	}
	return fmt.Errorf("node %s: %s", id, text)
}

// frameWriter sends frames whole, one at a time.
type frameWriter struct {
	conn    net.Conn
	timeout time.Duration
	mu      sync.Mutex
	buffer  []byte
}

// keepBuffer bounds what a writer keeps for the next frame.
const keepBuffer = 64 << 10

func (w *frameWriter) write(f frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, err := appendFrame(w.buffer[:0], f)
	if err != nil {
		return fmt.Errorf("%w: %w", fsm.ErrNotDone, err)
	}
	if cap(p) <= keepBuffer {
		w.buffer = p
	}
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return err
	}
	_, err = w.conn.Write(p)
	return err
}

// caller is this node's side of the calls to one peer: one connection that all
// calls share, made when first needed and again after it broke.
type caller struct {
	transport *Transport
	peer      cluster.Peer
	turn      chan struct{} // capacity 1: who holds it connects

	mu      sync.Mutex
	link    *link
	retired bool
}

func (t *Transport) callerOf(p cluster.Peer) *caller {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.callers[p]
	if c == nil {
		c = &caller{transport: t, peer: p, turn: make(chan struct{}, 1)}
		t.callers[p] = c
	}
	return c
}

func (c *caller) current() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil && c.link.ended() {
		c.link = nil
	}
	return c.link
}

// connect returns a live link. An error proves that nothing was sent.
func (c *caller) connect(ctx context.Context) (*link, error) {
	if l := c.current(); l != nil {
		return l, nil
	}
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("connecting to node %s: %w: %w", c.peer.ID, fsm.ErrNotDone, context.Cause(ctx))
	}
	if l := c.current(); l != nil {
		return l, nil
	}
	conn, err := c.transport.dial(ctx, c.peer, protocolNode)
	if err != nil {
		return nil, err
	}
	l := newLink(conn, c.transport.cfg.Timeout)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired || c.transport.ctx.Err() != nil {
		l.end()
		return nil, errRefused
	}
	c.link = l
	go func() {
		if closedByPeer := l.read(); closedByPeer {
			c.transport.begin(c.revisit)
		}
	}()
	return l, nil
}

// revisits are the pauses between attempts to reach a peer again whose connection
// ended: the sockets of a process that is killed close one after the other, and the
// one that listens may be the last.
var revisits = []time.Duration{time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond}

// revisit finds out what became of a peer that ended its connection. When its host
// refuses another one, nobody listens there: the process has ended. Otherwise the
// calls have their connection again, or the silence speaks for itself.
func (c *caller) revisit() {
	for _, d := range revisits {
		_, err := c.connect(c.transport.ctx)
		switch {
		case err == nil || errors.Is(err, errRefused):
			return
		case errors.Is(err, syscall.ECONNREFUSED):
			if h := c.transport.serving(); h != nil {
				h.HandleDeparted(c.peer)
			}
			return
		}
		pause(c.transport.ctx, d)
	}
}

// retire ends the connection now, drain when its last call has ended.
func (c *caller) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	if c.link != nil {
		c.link.end()
	}
}

func (c *caller) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	if c.link != nil {
		c.link.drain()
	}
}

// link is one connection with the calls that wait on it.
type link struct {
	w    *frameWriter
	done chan struct{}
	once sync.Once

	mu       sync.Mutex
	next     uint64
	waiting  map[uint64]chan frame
	draining bool
}

func newLink(c net.Conn, timeout time.Duration) *link {
	return &link{w: &frameWriter{conn: c, timeout: timeout}, done: make(chan struct{}), waiting: map[uint64]chan frame{}}
}

func (l *link) end() {
	l.once.Do(func() {
		close(l.done)
		_ = l.w.conn.Close() // whoever waits is told by done
	})
}

func (l *link) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

func (l *link) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	if len(l.waiting) == 0 {
		l.end()
	}
}

// read hands answers to those who wait. It ends with the connection, and tells
// whether it was the peer who ended it, or what lies between.
func (l *link) read() (closedByPeer bool) {
	defer l.end()
	r := bufio.NewReaderSize(l.w.conn, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			return !l.ended() // done tells those who wait
		}
		l.mu.Lock()
		w := l.waiting[f.request]
		delete(l.waiting, f.request)
		l.mu.Unlock()
		if w != nil {
			w <- f
		}
	}
}

func (l *link) begin() (uint64, chan frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	w := make(chan frame, 1)
	l.waiting[l.next] = w
	return l.next, w
}

func (l *link) forget(request uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, request)
	if l.draining && len(l.waiting) == 0 {
		l.end()
	}
}

// do sends one request and waits for its answer.
func (l *link) do(ctx context.Context, kind byte, body []byte, wait time.Duration) (frame, error) {
	request, answer := l.begin()
	defer l.forget(request)
	millis := uint32(max(1, min(wait.Milliseconds(), 1<<31)))
	if err := l.w.write(frame{request: request, kind: kind, millis: millis, body: body}); err != nil {
		if !errors.Is(err, fsm.ErrNotDone) { // half a frame may be out: nothing can follow it
			l.end()
		}
		return frame{}, err
	}
	select {
	case f := <-answer:
		return f, nil
	case <-l.done:
		return frame{}, errGone
	case <-ctx.Done():
		return frame{}, context.Cause(ctx)
	}
}

// callWait is how long a call without a deadline may take.
const callWait = 30 * time.Second

// ask makes one call to p.
func ask[Q, A any](ctx context.Context, t *Transport, p cluster.Peer, method byte, q Q) (A, error) {
	var a A
	wait := callWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = time.Until(deadline)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	body, err := encode(q)
	if err != nil {
		return a, fmt.Errorf("%w: %w", fsm.ErrNotDone, err)
	}
	l, err := t.callerOf(p).connect(ctx)
	if err != nil {
		return a, err
	}
	f, err := l.do(ctx, method, body, wait)
	if err != nil {
		return a, fmt.Errorf("calling node %s: %w", p.ID, err)
	}
	if f.kind != statusOK {
		return a, remoteError(p.ID, f)
	}
	return a, decode(f.body, &a)
}

// Propose implements cluster.Caller.
func (t *Transport) Propose(ctx context.Context, to cluster.Peer, batches []cluster.RawBatch) ([]cluster.Reply, error) {
	return ask[[]cluster.RawBatch, []cluster.Reply](ctx, t, to, methodPropose, batches)
}

// ReadIndex implements cluster.Caller.
func (t *Transport) ReadIndex(ctx context.Context, to cluster.Peer) (uint64, error) {
	return ask[uint64, uint64](ctx, t, to, methodReadIndex, 0)
}

// StateHash implements cluster.Caller.
func (t *Transport) StateHash(ctx context.Context, to cluster.Peer, index uint64) (cluster.HashAnswer, error) {
	return ask[uint64, cluster.HashAnswer](ctx, t, to, methodStateHash, index)
}

// FetchEntry implements cluster.Caller.
func (t *Transport) FetchEntry(ctx context.Context, to cluster.Peer, index uint64) (cluster.RawEntry, error) {
	return ask[uint64, cluster.RawEntry](ctx, t, to, methodFetchEntry, index)
}

// Status implements cluster.Caller.
func (t *Transport) Status(ctx context.Context, to cluster.Peer) (cluster.Status, error) {
	return ask[uint64, cluster.Status](ctx, t, to, methodStatus, 0)
}

// Change implements cluster.Caller.
func (t *Transport) Change(ctx context.Context, to cluster.Peer, c cluster.Change) (cluster.ChangeAnswer, error) {
	return ask[cluster.Change, cluster.ChangeAnswer](ctx, t, to, methodChange, c)
}

// Departure implements cluster.Caller.
func (t *Transport) Departure(ctx context.Context, to cluster.Peer, d cluster.Departure) error {
	_, err := ask[cluster.Departure, uint64](ctx, t, to, methodDeparture, d)
	return err
}
