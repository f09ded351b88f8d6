package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/fsm"
)

// Config is what a transport is made of. Zero means the stated default; fields
// without one are required.
type Config struct {
	// Listener accepts plain connections from other nodes. The transport closes it.
	Listener net.Listener
	// Address is what other nodes reach this one at. Zero: the listener's.
	Address string
	// Dial opens a plain connection. Zero: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS holds this node's certificate, named CertificateName of its id, and
	// the cluster authority as RootCAs (and ClientCAs; zero: the same). What
	// GetCertificate and GetClientCertificate return may change; call Reconnect
	// then. Version, protocols and client verification are set here.
	TLS *tls.Config
	// Allowed tells whether a node may connect. It is asked at each connection
	// and each call, and must not block.
	Allowed func(nodeID string) bool
	// Timeout bounds one message of Raft, and the opening of a connection. A
	// snapshot gets more, by its size. Zero: 2 s.
	Timeout time.Duration
	// Calls bounds the calls that one peer has under way here. Zero: 64.
	Calls  int
	Logger *slog.Logger // zero: discards
}

func (c *Config) fill() error {
	if c.Listener == nil || c.TLS == nil || c.Allowed == nil {
		return errors.New("configuring peer transport: listener, TLS and Allowed are required")
	}
	if c.TLS.RootCAs == nil {
		// The system's authorities must never vouch for a node.
		return errors.New("configuring peer transport: TLS.RootCAs is required")
	}
	if c.Address == "" {
		c.Address = c.Listener.Addr().String()
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{}).DialContext
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Calls == 0 {
		c.Calls = 64
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Transport implements cluster.Transport. Close it after the node.
type Transport struct {
	cfg     Config
	server  *tls.Config
	streams *streams
	raft    *raft.NetworkTransport

	ctx    context.Context
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu      sync.Mutex
	handler cluster.Handler
	open    map[net.Conn]string      // accepted connections and whose they are; "" while unknown
	callers map[cluster.Peer]*caller // one per peer and address
}

var _ cluster.Transport = (*Transport)(nil)

// New starts to listen. Calls are refused until Serve.
func New(cfg Config) (*Transport, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	t := &Transport{cfg: cfg, server: serverTLS(cfg.TLS), open: map[net.Conn]string{}, callers: map[cluster.Peer]*caller{}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.streams = &streams{transport: t, accepted: make(chan net.Conn)}
	t.raft = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: t.streams, MaxPool: 8, MaxRPCsInFlight: 1, Timeout: cfg.Timeout,
		Logger: cluster.RaftLogger(cfg.Logger), MsgpackUseNewTimeFormat: true,
	})
	t.group.Go(t.accept)
	return t, nil
}

// Serve implements cluster.Transport.
func (t *Transport) Serve(h cluster.Handler) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handler = h
}

func (t *Transport) serving() cluster.Handler {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.handler
}

// Close ends every connection and waits for the transport's goroutines. Calls
// under way fail.
func (t *Transport) Close() error {
	t.cancel()
	err := t.raft.Close() // closes the streams, and with them the listener
	t.raft.CloseStreams() // the pooled connections, which Close leaves open
	t.mu.Lock()
	for c := range t.open {
		_ = c.Close() // it is given up; its reader reports nothing
	}
	for _, c := range t.callers {
		c.retire()
	}
	t.mu.Unlock()
	t.group.Wait()
	return err
}

// begin runs f on a goroutine that Close waits for, or not at all after Close.
func (t *Transport) begin(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() == nil {
		t.group.Go(f)
	}
}

// Reconnect has connections made anew, after this node's certificate or the
// authority changed. Calls under way finish on the old ones; a message of Raft
// under way may fail and is sent again by Raft.
func (t *Transport) Reconnect() {
	t.mu.Lock()
	for p, c := range t.callers {
		c.drain()
		delete(t.callers, p)
	}
	t.mu.Unlock()
	t.raft.CloseStreams()
}

// CloseRemoved ends the connections of peers that Allowed accepts no more. Call
// it when the membership changed.
func (t *Transport) CloseRemoved() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c, id := range t.open {
		if id != "" && !t.cfg.Allowed(id) {
			_ = c.Close() // its reader ends; there is nothing to report
		}
	}
	for p, c := range t.callers {
		if !t.cfg.Allowed(p.ID) {
			c.retire()
			delete(t.callers, p)
		}
	}
}

// dial opens a connection to p for protocol and proves that p is at its end.
// The error is fsm.ErrNotDone: nothing was sent.
func (t *Transport) dial(ctx context.Context, p cluster.Peer, protocol string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	plain, err := t.cfg.Dial(ctx, "tcp", p.Address)
	if err != nil {
		return nil, fmt.Errorf("connecting to node %s: %w: %w", p.ID, fsm.ErrNotDone, err)
	}
	c := tls.Client(plain, clientTLS(t.cfg.TLS, p.ID, protocol))
	err = c.HandshakeContext(ctx)
	if err == nil {
		_, err = admit(c.ConnectionState(), t.cfg.Allowed)
	}
	if err == nil && c.ConnectionState().NegotiatedProtocol != protocol {
		err = errors.New("the other end does not speak " + protocol)
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to node %s: %w: %w", p.ID, fsm.ErrNotDone, errors.Join(err, plain.Close()))
	}
	return c, nil
}

// addressed carries the target's id through the library's connection pool,
// which knows addresses only, so that dial can insist on that very node.
func addressed(id raft.ServerID, a raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + "@" + a
}

// streams is the library's view of the connections with protocolRaft.
type streams struct {
	transport *Transport
	accepted  chan net.Conn
}

// Accept implements net.Listener.
func (s *streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.accepted:
		return c, nil
	case <-s.transport.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *streams) Close() error { return s.transport.cfg.Listener.Close() }

// Addr implements net.Listener: what others reach this node at.
func (s *streams) Addr() net.Addr { return address(s.transport.cfg.Address) }

// Dial implements raft.StreamLayer for an address made by addressed.
func (s *streams) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if target == itself {
		return s.loop()
	}
	id, at, ok := strings.Cut(string(target), "@")
	if !ok {
		return nil, fmt.Errorf("connecting to %q: no node id in it", target)
	}
	ctx := s.transport.ctx
	if timeout > 0 {
		bounded, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = bounded
	}
	return s.transport.dial(ctx, cluster.Peer{ID: id, Address: at}, protocolRaft)
}

// itself is the address of this node in the library's pool, for TimeoutNow alone:
// a vote that a node asks of itself must never pass for another's.
const itself raft.ServerAddress = "itself"

// loop is a connection of this node with itself: no wire, no TLS.
func (s *streams) loop() (net.Conn, error) {
	near, far := net.Pipe()
	t := s.transport
	if !t.hold(far) {
		return nil, errors.Join(net.ErrClosed, near.Close())
	}
	select {
	case s.accepted <- &releasing{Conn: far, release: func() { t.release(far) }}:
		return near, nil
	case <-t.ctx.Done():
		t.release(far)
		return nil, errors.Join(net.ErrClosed, near.Close())
	}
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// Consumer implements raft.Transport.
func (t *Transport) Consumer() <-chan raft.RPC { return t.raft.Consumer() }

// LocalAddr implements raft.Transport.
func (t *Transport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.cfg.Address) }

// EncodePeer implements raft.Transport.
func (t *Transport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }

// DecodePeer implements raft.Transport.
func (t *Transport) DecodePeer(p []byte) raft.ServerAddress { return raft.ServerAddress(p) }

// SetHeartbeatHandler does nothing: the fast path races Raft's main loop
// (cluster/DESIGN.md, L1).
func (t *Transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntriesPipeline refuses (cluster/DESIGN.md, L7).
func (t *Transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport.
func (t *Transport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return t.raft.AppendEntries(id, addressed(id, to), req, resp)
}

// RequestVote implements raft.Transport.
func (t *Transport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return t.raft.RequestVote(id, addressed(id, to), req, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t *Transport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return t.raft.RequestPreVote(id, addressed(id, to), req, resp)
}

// InstallSnapshot implements raft.Transport.
func (t *Transport) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.raft.InstallSnapshot(id, addressed(id, to), req, resp, data)
}

// TimeoutNow implements raft.Transport. To this node itself it goes without a wire.
func (t *Transport) TimeoutNow(id raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if to == t.LocalAddr() {
		return t.raft.TimeoutNow(id, itself, req, resp)
	}
	return t.raft.TimeoutNow(id, addressed(id, to), req, resp)
}
