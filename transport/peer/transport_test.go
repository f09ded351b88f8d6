package peer_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/transport/peer"
)

// echo answers calls with what they carried. It answers no ReadIndex while silent
// is open.
type echo struct {
	departed chan cluster.Peer
	calls    atomic.Int64
	silent   chan struct{}
}

func (e *echo) HandlePropose(_ context.Context, b []cluster.RawBatch) ([]cluster.Reply, error) {
	e.calls.Add(1)
	out := make([]cluster.Reply, len(b))
	for i := range b {
		out[i] = cluster.Reply{Code: cluster.ReplyDone, Result: fsm.Result{Code: fsm.Conflict, Index: uint64(len(b[i])), Time: 7, Guard: i}}
	}
	return out, nil
}

func (e *echo) HandleReadIndex(context.Context) (uint64, error) {
	if e.silent != nil {
		<-e.silent // not the context: an answer at the deadline would race with it
	}
	return 42, nil
}

func (e *echo) HandleStateHash(_ context.Context, i uint64) (cluster.HashAnswer, error) {
	return cluster.HashAnswer{Known: true, Sum: fsm.StateHash{byte(i)}}, nil
}

func (e *echo) HandleFetchEntry(_ context.Context, i uint64) (cluster.RawEntry, error) {
	if i == 404 {
		return cluster.RawEntry{}, cluster.ErrEntryUnknown
	}
	return cluster.RawEntry{Index: i, Term: 2, Type: 0, Data: bytes.Repeat([]byte{1}, int(i))}, nil
}

func (e *echo) HandleDeparture(context.Context, cluster.Departure) error { return nil }

func (e *echo) HandleDeparted(p cluster.Peer) { e.departed <- p }

func (e *echo) HandleChange(context.Context, cluster.Change) (cluster.ChangeAnswer, error) {
	return cluster.ChangeAnswer{}, cluster.ErrNotLeader
}

func (e *echo) HandleStatus(context.Context) (cluster.Status, error) {
	return cluster.Status{}, cluster.ErrNotLeader
}

// Every call carries its request there and its answer back.
func TestCallsRoundTrip(t *testing.T) {
	ca := newAuthority(t)
	a := open(t, peer.Config{TLS: ca.config(t, "a")})
	b := open(t, peer.Config{TLS: ca.config(t, "b")})
	b.Serve(&echo{})
	to := cluster.Peer{ID: "b", Address: string(b.LocalAddr())}
	ctx := within(t, 10*time.Second)

	replies, err := a.Propose(ctx, to, []cluster.RawBatch{[]byte("one"), bytes.Repeat([]byte{9}, 1<<20)})
	if err != nil || len(replies) != 2 || replies[1].Result.Index != 1<<20 || replies[1].Result.Guard != 1 || replies[0].Result.Time != 7 {
		t.Errorf("propose: %+v, %v", replies, err)
	}
	if i, err := a.ReadIndex(ctx, to); i != 42 || err != nil {
		t.Errorf("read index: %d, %v", i, err)
	}
	if h, err := a.StateHash(ctx, to, 5); !h.Known || h.Sum[0] != 5 || err != nil {
		t.Errorf("state hash: %+v, %v", h, err)
	}
	if e, err := a.FetchEntry(ctx, to, 300<<10); len(e.Data) != 300<<10 || err != nil {
		t.Errorf("fetch entry: %d bytes, %v", len(e.Data), err)
	}
	if _, err := a.FetchEntry(ctx, to, 404); !errors.Is(err, cluster.ErrEntryUnknown) {
		t.Errorf("fetch of an unknown entry: %v", err)
	}
	if _, err := a.Status(ctx, to); !errors.Is(err, cluster.ErrNotLeader) || !errors.Is(err, fsm.ErrNotDone) {
		t.Errorf("status: %v, want the sentinel that the handler returned", err)
	}
}

// Who cannot prove to be an allowed node of this cluster gets no call through,
// and the caller knows that nothing was done.
func TestStrangersAreRefused(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	served := &echo{}
	server := open(t, peer.Config{TLS: ca.config(t, "b"), Allowed: func(id string) bool { return id == "a" || id == "b" }})
	server.Serve(served)
	to := cluster.Peer{ID: "b", Address: string(server.LocalAddr())}

	foreign := other.config(t, "a")
	foreign.RootCAs = ca.pool() // it trusts us; we do not trust it
	nameless := &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{ca.issue(t, "a.example.org")}}
	double := &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{ca.issue(t, peer.CertificateName("a"), peer.CertificateName("c"))}}
	for name, config := range map[string]*tls.Config{
		"certificate of another authority": foreign,
		"no certificate":                   {RootCAs: ca.pool()},
		"removed node":                     ca.config(t, "removed"),
		"certificate without a node":       nameless,
		"certificate for two nodes":        double,
		"it does not trust our authority":  other.config(t, "a"),
	} {
		client := open(t, peer.Config{TLS: config})
		if _, err := client.ReadIndex(within(t, 5*time.Second), to); err == nil {
			t.Errorf("%s: the call got through", name)
		}
	}
	if n := served.calls.Load(); n != 0 {
		t.Errorf("%d calls of strangers were handled", n)
	}
	client := open(t, peer.Config{TLS: ca.config(t, "a")})
	if _, err := client.ReadIndex(within(t, 5*time.Second), cluster.Peer{ID: "c", Address: to.Address}); !errors.Is(err, fsm.ErrNotDone) {
		t.Errorf("calling node c where b listens: %v, want not done", err)
	}
	if _, err := client.ReadIndex(within(t, 5*time.Second), to); err != nil {
		t.Errorf("the allowed node: %v", err)
	}
}

// A frame that announces more than the limit ends its connection, unread.
func TestOversizedFrameIsRefused(t *testing.T) {
	ca := newAuthority(t)
	server := open(t, peer.Config{TLS: ca.config(t, "b")})
	server.Serve(&echo{})
	config := ca.config(t, "a")
	config.ServerName, config.NextProtos = peer.CertificateName("b"), []string{"conclave-node/1"}
	c, err := tls.Dial("tcp", string(server.LocalAddr()), config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	head := binary.BigEndian.AppendUint32(nil, 8<<20+1)
	if _, err := c.Write(append(head, make([]byte, 64)...)); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after an oversized frame: %d bytes, %v; want the end", n, err)
	}
	client := open(t, peer.Config{TLS: ca.config(t, "a")})
	_, err = client.Propose(within(t, 5*time.Second), cluster.Peer{ID: "b", Address: string(server.LocalAddr())}, []cluster.RawBatch{make([]byte, 9<<20)})
	if !errors.Is(err, fsm.ErrNotDone) {
		t.Errorf("sending an oversized batch: %v, want not done", err)
	}
}

// A removed peer loses its connection; a new certificate is used from Reconnect on.
func TestRemovalAndNewCertificate(t *testing.T) {
	ca := newAuthority(t)
	var removed atomic.Bool
	server := open(t, peer.Config{TLS: ca.config(t, "b"), Allowed: func(id string) bool { return !removed.Load() }})
	server.Serve(&echo{})
	to := cluster.Peer{ID: "b", Address: string(server.LocalAddr())}

	var present atomic.Pointer[tls.Certificate]
	first := ca.issue(t, peer.CertificateName("a"))
	present.Store(&first)
	var asked atomic.Int64
	config := &tls.Config{RootCAs: ca.pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked.Add(1)
		return present.Load(), nil
	}}
	client := open(t, peer.Config{TLS: config})
	call := func() error {
		_, err := client.ReadIndex(within(t, 5*time.Second), to)
		return err
	}
	if err := errors.Join(call(), call()); err != nil || asked.Load() != 1 {
		t.Fatalf("two calls: %v over %d connections, want one", err, asked.Load())
	}
	second := ca.issue(t, peer.CertificateName("a"))
	present.Store(&second)
	client.Reconnect()
	if err := call(); err != nil || asked.Load() != 2 {
		t.Errorf("after Reconnect: %v, %d connections", err, asked.Load())
	}
	removed.Store(true)
	if err := call(); !errors.Is(err, fsm.ErrNotDone) {
		t.Errorf("call of a removed peer on its old connection: %v, want not done", err)
	}
	server.CloseRemoved()
	if err := call(); err == nil {
		t.Error("a removed peer connected again")
	}
}

// A call ends with its context although the peer never answers.
func TestCallKeepsItsDeadline(t *testing.T) {
	ca := newAuthority(t)
	a, b := open(t, peer.Config{TLS: ca.config(t, "a")}), open(t, peer.Config{TLS: ca.config(t, "b")})
	h := &echo{silent: make(chan struct{})}
	defer close(h.silent)
	b.Serve(h)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := a.ReadIndex(ctx, cluster.Peer{ID: "b", Address: string(b.LocalAddr())})
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, fsm.ErrNotDone) {
		t.Errorf("got %v, want deadline exceeded with an unknown outcome", err)
	}
}

func BenchmarkReadIndexCall(b *testing.B) {
	ca := newAuthority(b)
	x, y := open(b, peer.Config{TLS: ca.config(b, "x")}), open(b, peer.Config{TLS: ca.config(b, "y")})
	y.Serve(&echo{})
	to := cluster.Peer{ID: "y", Address: string(y.LocalAddr())}
	for b.Loop() {
		if _, err := x.ReadIndex(context.Background(), to); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProposeGroup(b *testing.B) {
	ca := newAuthority(b)
	x, y := open(b, peer.Config{TLS: ca.config(b, "x")}), open(b, peer.Config{TLS: ca.config(b, "y")})
	y.Serve(&echo{})
	to := cluster.Peer{ID: "y", Address: string(y.LocalAddr())}
	group := make([]cluster.RawBatch, 256)
	for i := range group {
		group[i] = fmt.Appendf(nil, "%0400d", i)
	}
	for b.Loop() {
		if _, err := x.Propose(context.Background(), to, group); err != nil {
			b.Fatal(err)
		}
	}
}

// A peer whose process has ended is noticed without a call; one that only ended its
// connections and listens on is not taken for gone.
func TestEndedPeersAreNoticed(t *testing.T) {
	ca := newAuthority(t)
	var admitted atomic.Bool
	admitted.Store(true)
	var dials atomic.Int64
	tried := make(chan struct{}, 100)
	h := &echo{departed: make(chan cluster.Peer, 1)}
	a := open(t, peer.Config{TLS: ca.config(t, "a"), Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		tried <- struct{}{}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}})
	a.Serve(h)
	b := open(t, peer.Config{TLS: ca.config(t, "b"), Allowed: func(string) bool { return admitted.Load() }})
	b.Serve(&echo{})
	to := cluster.Peer{ID: "b", Address: string(b.LocalAddr())}
	ctx := within(t, 20*time.Second)
	ask := func() {
		t.Helper()
		if _, err := a.ReadIndex(ctx, to); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	admitted.Store(false)
	b.CloseRemoved()
	for range 1 + peer.Revisits {
		select {
		case <-tried:
		case <-ctx.Done():
			t.Fatal("it was not looked for")
		}
	}
	select {
	case p := <-h.departed:
		t.Fatalf("%v was taken for gone, and listens", p)
	default:
	}
	admitted.Store(true)
	ask()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case p := <-h.departed:
		if p != to {
			t.Errorf("gone is %v, want %v", p, to)
		}
	case <-ctx.Done():
		t.Error("its end was not noticed")
	}
}

// A node reaches itself with TimeoutNow, and with nothing else.
func TestTimeoutNowReachesTheNodeItself(t *testing.T) {
	ca := newAuthority(t)
	a := open(t, peer.Config{TLS: ca.config(t, "a")})
	go func() {
		rpc := <-a.Consumer()
		if _, ok := rpc.Command.(*raft.TimeoutNowRequest); !ok {
			t.Errorf("it got a %T", rpc.Command)
		}
		rpc.Respond(&raft.TimeoutNowResponse{}, nil)
	}()
	if err := a.TimeoutNow("a", a.LocalAddr(), &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{}); err != nil {
		t.Error(err)
	}
	// At its own address, and under another's name: that one is not there.
	err := a.RequestVote("b", a.LocalAddr(), &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{})
	if err == nil {
		t.Error("a node voted for itself in another's name")
	}
}
