package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
)

// maxMessageBytes bounds an answer. It is far above the default limit of a
// value (1 MiB) and there only to stop a runaway server.
const maxMessageBytes = 64 << 20

// A node is one address and, once somebody asks, its connection.
type node struct {
	address string
	options []grpc.DialOption

	mu      sync.Mutex
	conn    *grpc.ClientConn // nil until first use
	closed  bool
	retryAt time.Time // until then other nodes go first
	misses  int       // failures since the last success

	// lastFailure is the newest reason why no connection could be made: typed,
	// where gRPC would only give text.
	lastFailure atomic.Pointer[error]
}

func newNode(address string, cfg Config, tlsConfig *tls.Config) *node {
	n := &node{address: address}
	params := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
		MinConnectTimeout: cfg.DialTimeout,
	}
	n.options = []grpc.DialOption{
		grpc.WithTransportCredentials(&notedHandshake{credentials.NewTLS(tlsConfig), n}),
		grpc.WithContextDialer(n.dialNoted(cfg.Dial)),
		grpc.WithConnectParams(params),
		// Pings only while a call waits, and rarely enough for a server with
		// gRPC's default enforcement.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		grpc.WithStatsHandler(sentNote{}),
		// What is repeated is decided in call.go and nowhere else.
		grpc.WithDisableServiceConfig(),
	}
	return n
}

// connection returns the connection of the node, made lazily.
func (n *node) connection() (*grpc.ClientConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errClosed
	}
	if n.conn == nil {
		conn, err := grpc.NewClient("passthrough:///"+n.address, n.options...)
		if err != nil {
			return nil, fmt.Errorf("opening connection to %s: %w", n.address, err)
		}
		n.conn = conn
	}
	if n.conn.GetState() == connectivity.TransientFailure {
		n.conn.ResetConnectBackoff()
	}
	return n.conn, nil
}

func (n *node) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	if n.conn == nil {
		return nil
	}
	return n.conn.Close()
}

// dialNoted remembers why dialing failed.
func (n *node) dialNoted(dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := dial(ctx, address)
		n.noteFailure(err)
		return conn, err
	}
}

func (n *node) noteFailure(err error) {
	if err == nil {
		n.lastFailure.Store(nil)
		return
	}
	n.lastFailure.Store(&err)
}

// connectionFailure returns why there is no connection, or nil.
func (n *node) connectionFailure() error {
	if p := n.lastFailure.Load(); p != nil {
		return *p
	}
	return nil
}

// notedHandshake remembers why a TLS handshake failed.
type notedHandshake struct {
	credentials.TransportCredentials
	node *node
}

func (h *notedHandshake) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	h.node.noteFailure(err)
	return conn, info, err
}

func (h *notedHandshake) Clone() credentials.TransportCredentials {
	return &notedHandshake{h.TransportCredentials.Clone(), h.node}
}

// sentNote is a stats handler that marks an attempt as sent once its headers
// were given to a connection. Until then the server cannot have seen it, and
// repeating it is safe whatever it does.
type sentNote struct{}

type sentKey struct{}

func withSentMark(ctx context.Context) (context.Context, *atomic.Bool) {
	mark := new(atomic.Bool)
	return context.WithValue(ctx, sentKey{}, mark), mark
}

func (sentNote) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, isHeader := s.(*stats.OutHeader); !isHeader {
		return
	}
	if mark, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		mark.Store(true)
	}
}

func (sentNote) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (sentNote) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sentNote) HandleConn(context.Context, stats.ConnStats)                       {}
