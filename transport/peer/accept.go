package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
)

// accept takes connections until the listener is closed.
func (t *Transport) accept() {
	for {
		c, err := t.cfg.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || t.ctx.Err() != nil {
				return
			}
			t.cfg.Logger.Warn("accepting a peer failed", "error", err)
			pause(t.ctx, 50*time.Millisecond) // too many open files, say: do not spin
			continue
		}
		t.group.Go(func() { t.greet(c) })
	}
}

// greet finds out who is there and serves the protocol it chose.
func (t *Transport) greet(plain net.Conn) {
	c := tls.Server(plain, t.server)
	if !t.hold(c) {
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.Timeout)
	defer cancel()
	err := c.HandshakeContext(ctx)
	var id string
	if err == nil {
		id, err = admit(c.ConnectionState(), t.cfg.Allowed)
	}
	if err != nil {
		t.cfg.Logger.Warn("refusing a peer", "from", plain.RemoteAddr().String(), "error", err)
		t.release(c)
		return
	}
	t.know(c, id)
	if c.ConnectionState().NegotiatedProtocol == protocolNode {
		t.serveCalls(c, id)
		t.release(c)
		return
	}
	// Without ALPN there is no protocol; with it TLS has refused unknown ones.
	if c.ConnectionState().NegotiatedProtocol != protocolRaft {
		t.cfg.Logger.Warn("refusing a peer without protocol", "peer", id)
		t.release(c)
		return
	}
	select {
	case t.streams.accepted <- &releasing{Conn: c, release: func() { t.release(c) }}:
	case <-t.ctx.Done():
		t.release(c)
	}
}

// hold registers c to be closed with the transport.
func (t *Transport) hold(c net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		_ = c.Close() // the transport is closing; nobody waits for it
		return false
	}
	t.open[c] = ""
	return true
}

func (t *Transport) know(c net.Conn, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[c] = id
}

func (t *Transport) release(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, c)
	_ = c.Close() // it is done with, or broken already
}

// releasing tells the transport when the library is done with a connection.
type releasing struct {
	net.Conn
	release func()
}

// Close implements net.Conn.
func (r *releasing) Close() error {
	r.release()
	return nil
}

// serveCalls answers the calls that come over c until it ends. At most
// Config.Calls are under way; then reading stops, which holds the peer back.
func (t *Transport) serveCalls(c net.Conn, id string) {
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	slots := make(chan struct{}, t.cfg.Calls)
	w := &frameWriter{conn: c, timeout: t.cfg.Timeout}
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			t.cfg.Logger.Debug("a peer's calls end", "peer", id, "error", err)
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		t.group.Go(func() {
			defer func() { <-slots }()
			t.serveCall(ctx, w, id, f)
		})
	}
}

func (t *Transport) serveCall(ctx context.Context, w *frameWriter, id string, f frame) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(f.millis)*time.Millisecond)
	defer cancel()
	h := t.serving()
	var body []byte
	err := errRefused
	if h != nil && t.cfg.Allowed(id) {
		body, err = dispatch(ctx, h, f)
	}
	answer := frame{request: f.request, kind: statusOf(err), body: body}
	if err != nil {
		answer.body = []byte(err.Error())
	}
	if err := w.write(answer); err != nil {
		t.cfg.Logger.Debug("answering a peer failed", "peer", id, "error", err)
	}
}

// dispatch has h handle the request f and returns the encoded answer.
func dispatch(ctx context.Context, h cluster.Handler, f frame) ([]byte, error) {
	switch f.kind {
	case methodPropose:
		return handleWith(f.body, func(b []cluster.RawBatch) ([]cluster.Reply, error) { return h.HandlePropose(ctx, b) })
	case methodReadIndex:
		return handleWith(f.body, func(uint64) (uint64, error) { return h.HandleReadIndex(ctx) })
	case methodStateHash:
		return handleWith(f.body, func(i uint64) (cluster.HashAnswer, error) { return h.HandleStateHash(ctx, i) })
	case methodFetchEntry:
		return handleWith(f.body, func(i uint64) (cluster.RawEntry, error) { return h.HandleFetchEntry(ctx, i) })
	case methodStatus:
		return handleWith(f.body, func(uint64) (cluster.Status, error) { return h.HandleStatus(ctx) })
	case methodChange:
		return handleWith(f.body, func(c cluster.Change) (cluster.ChangeAnswer, error) { return h.HandleChange(ctx, c) })
	case methodDeparture:
		return handleWith(f.body, func(d cluster.Departure) (uint64, error) { return 0, h.HandleDeparture(ctx, d) })
	}
	return nil, errMethod
}

func handleWith[Q, A any](body []byte, do func(Q) (A, error)) ([]byte, error) {
	var q Q
	if err := decode(body, &q); err != nil {
		return nil, errors.Join(errRequest, err)
	}
	a, err := do(q)
	if err != nil {
		return nil, err
	}
	return encode(a)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
