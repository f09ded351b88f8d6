// Package clustertest runs whole clusters in one process, on virtual time: a
// seeded network of messages (Network), a small state machine (Ledger) and a
// builder that puts nodes on both (Cluster). It is made for testing/synctest
// bubbles and uses no socket and no file; what tests assert is not here. Start
// reading at Cluster.
package clustertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/fsm"
)

// Errors that a simulated network gives a caller.
var (
	// ErrLost: the message, or its answer, was lost; the caller timed out.
	ErrLost = errors.New("simulated network: no answer in time")
	// ErrRefused: nobody listens at the address. The request was not handled.
	ErrRefused = fmt.Errorf("simulated network: connection refused: %w", fsm.ErrNotDone)
)

// Network carries messages between simulated nodes. Every choice comes from the
// seed. A message that was sent before its link was cut still arrives, and so
// does an answer: that is what makes late acknowledgements happen. Its methods
// may be called at any time, by any goroutine.
type Network struct {
	mu        sync.Mutex
	rng       *rand.Rand
	endpoints map[string]*endpoint
	cut       map[[2]string]bool
	delay     func(from, to string, reply bool) time.Duration
	drop      func(from, to string, message any) bool
	duplicate float64
	timeout   time.Duration
}

// NewNetwork returns a network whose messages take 300 to 700 µs and whose calls
// time out after 2 s.
func NewNetwork(seed uint64) *Network {
	n := &Network{
		rng:       rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)),
		endpoints: map[string]*endpoint{}, cut: map[[2]string]bool{}, timeout: 2 * time.Second,
	}
	n.delay = func(string, string, bool) time.Duration { return 300*time.Microsecond + n.jitter(400*time.Microsecond) }
	return n
}

// jitter is a random part of d. Call it from a delay function only.
func (n *Network) jitter(d time.Duration) time.Duration { return time.Duration(n.rng.Int64N(int64(d))) }

// Jitter returns a random duration below d, from the network's seed.
func (n *Network) Jitter(d time.Duration) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.jitter(d)
}

// Transport makes a new endpoint at address, in the place of one that was there.
func (n *Network) Transport(address string) cluster.Transport {
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.endpoints[address]; old != nil {
		old.die()
	}
	e := &endpoint{network: n, address: address, inbox: make(chan raft.RPC, 64), dead: make(chan struct{})}
	n.endpoints[address] = e
	return e
}

// Kill makes the endpoint at address refuse everything, as a killed process
// does; answers it still owed never come. Those that its host still reaches see
// their connections end.
func (n *Network) Kill(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.endpoints[address]
	if e == nil || e.isDead() {
		return
	}
	e.die()
	for _, name := range slices.Sorted(maps.Keys(n.endpoints)) {
		if other := n.endpoints[name]; !other.isDead() {
			if takes := n.delay(address, name, true); !n.cut[[2]string{address, name}] {
				time.AfterFunc(takes, func() { other.seeEnd(e) })
			}
		}
	}
}

// Vanish ends the endpoint at address as a host without power does: nothing
// answers there any more, and nobody is told.
func (n *Network) Vanish(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.endpoints[address]; e != nil {
		e.silent.Store(true)
		e.die()
	}
}

// CutOneWay loses everything sent from one address to another.
func (n *Network) CutOneWay(from, to string) { n.set(from, to, true) }

// Cut loses everything between a and b.
func (n *Network) Cut(a, b string) {
	n.set(a, b, true)
	n.set(b, a, true)
}

// Restore mends what Cut did.
func (n *Network) Restore(a, b string) {
	n.set(a, b, false)
	n.set(b, a, false)
}

// Isolate cuts address off from every other endpoint.
func (n *Network) Isolate(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for other := range n.endpoints {
		if other != address {
			n.cut[[2]string{address, other}] = true
			n.cut[[2]string{other, address}] = true
		}
	}
}

// Heal mends every link.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

// SetDelay sets how long a message takes. f is called under the network's lock:
// it may use the rand that it is given, and must not call the network.
func (n *Network) SetDelay(f func(rng *rand.Rand, from, to string, reply bool) time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay = func(from, to string, reply bool) time.Duration { return f(n.rng, from, to, reply) }
}

// SetDrop loses the requests for which f is true. message is the library's
// request, or the []cluster.RawBatch, or nil for the other calls. f is called
// under the network's lock.
func (n *Network) SetDrop(f func(from, to string, message any) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.drop = f
}

// SetLoss loses requests with probability p.
func (n *Network) SetLoss(p float64) {
	n.SetDrop(func(string, string, any) bool { return n.rng.Float64() < p })
}

// SetDuplicates delivers a proposing call twice with probability p.
func (n *Network) SetDuplicates(p float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.duplicate = p
}

// SetTimeout sets after how long the library's calls fail when no answer comes.
func (n *Network) SetTimeout(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.timeout = d
}

func (n *Network) set(from, to string, v bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{from, to}] = v
}

// way tells whether a message gets through, how long it takes and who gets it.
func (n *Network) way(from, to string, message any, reply bool) (takes time.Duration, target *endpoint, lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	lost = n.cut[[2]string{from, to}] || !reply && n.drop != nil && n.drop(from, to, message)
	return n.delay(from, to, reply), n.endpoints[to], lost
}

func (n *Network) bound() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.timeout
}

func (n *Network) again() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.duplicate > 0 && n.rng.Float64() < n.duplicate
}

// endpoint is one node's transport.
type endpoint struct {
	network *Network
	address string
	inbox   chan raft.RPC
	dead    chan struct{}
	silent  atomic.Bool // dead, and its host does not even refuse
	once    sync.Once

	mu      sync.Mutex
	handler cluster.Handler
}

var _ cluster.Transport = (*endpoint)(nil)

func (e *endpoint) die() { e.once.Do(func() { close(e.dead) }) }

func (e *endpoint) isDead() bool {
	select {
	case <-e.dead:
		return true
	default:
		return false
	}
}

// seeEnd tells this node that the process of gone has ended, unless another one
// listens there by now.
func (e *endpoint) seeEnd(gone *endpoint) {
	if _, now, lost := e.network.way(e.address, gone.address, nil, true); lost || now != gone || e.isDead() {
		return
	}
	if h := e.serving(); h != nil {
		h.HandleDeparted(cluster.Peer{ID: gone.address, Address: gone.address})
	}
}

func (e *endpoint) serving() cluster.Handler {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.handler
}

// exchange sends message and has deliver handle it at the target.
func (e *endpoint) exchange(ctx context.Context, to string, message any, deliver func(context.Context, *endpoint) error) error {
	takes, _, lost := e.network.way(e.address, to, message, false)
	if e.isDead() {
		return ErrRefused
	}
	if lost {
		return e.vanish(ctx)
	}
	if !e.sleep(ctx, takes) {
		return ErrLost
	}
	_, target, _ := e.network.way(e.address, to, message, true)
	switch {
	case target == nil || target.isDead() && !target.silent.Load():
		return ErrRefused
	case target.isDead():
		return e.vanish(ctx)
	}
	err := deliver(ctx, target)
	if target.isDead() {
		return ErrLost
	}
	takes, _, lost = e.network.way(to, e.address, message, true)
	if lost {
		return e.vanish(ctx)
	}
	if !e.sleep(ctx, takes) {
		return ErrLost
	}
	return err
}

// vanish waits as one waits for an answer that never comes.
func (e *endpoint) vanish(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-e.dead:
	}
	return ErrLost
}

func (e *endpoint) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-e.dead:
	}
	return false
}

// raftCall carries one of the library's messages.
func (e *endpoint) raftCall(to raft.ServerAddress, message any, body io.Reader) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), e.network.bound())
	defer cancel()
	var answer raft.RPCResponse
	err := e.exchange(ctx, string(to), message, func(ctx context.Context, target *endpoint) error {
		got := make(chan raft.RPCResponse, 1)
		select {
		case target.inbox <- raft.RPC{Command: message, Reader: body, RespChan: got}:
		case <-target.dead:
			return ErrRefused
		case <-ctx.Done():
			return ErrLost
		}
		select {
		case answer = <-got:
			return answer.Error
		case <-target.dead:
		case <-ctx.Done():
		}
		return ErrLost
	})
	return answer.Response, err
}

func (e *endpoint) Consumer() <-chan raft.RPC                               { return e.inbox }
func (e *endpoint) LocalAddr() raft.ServerAddress                           { return raft.ServerAddress(e.address) }
func (e *endpoint) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (e *endpoint) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }
func (e *endpoint) SetHeartbeatHandler(func(raft.RPC))                      {}

func (e *endpoint) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (e *endpoint) AppendEntries(_ raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	c := *req
	c.Entries = make([]*raft.Log, len(req.Entries)) // no memory is shared over a wire
	for i, l := range req.Entries {
		own := *l
		own.Data = bytes.Clone(l.Data)
		c.Entries[i] = &own
	}
	r, err := e.raftCall(to, &c, nil)
	if err == nil {
		*resp = *r.(*raft.AppendEntriesResponse)
	}
	return err
}

func (e *endpoint) RequestVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	r, err := e.raftCall(to, req, nil)
	if err == nil {
		*resp = *r.(*raft.RequestVoteResponse)
	}
	return err
}

func (e *endpoint) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	r, err := e.raftCall(to, req, nil)
	if err == nil {
		*resp = *r.(*raft.RequestPreVoteResponse)
	}
	return err
}

func (e *endpoint) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	r, err := e.raftCall(to, req, nil)
	if err == nil {
		*resp = *r.(*raft.TimeoutNowResponse)
	}
	return err
}

func (e *endpoint) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	image, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	r, err := e.raftCall(to, req, bytes.NewReader(image))
	if err == nil {
		*resp = *r.(*raft.InstallSnapshotResponse)
	}
	return err
}

// Serve implements cluster.Transport.
func (e *endpoint) Serve(h cluster.Handler) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handler = h
}

// call carries one node-to-node call.
func call[T any](ctx context.Context, e *endpoint, to cluster.Peer, message any, do func(context.Context, cluster.Handler) (T, error)) (T, error) {
	var answer T
	err := e.exchange(ctx, to.Address, message, func(ctx context.Context, target *endpoint) error {
		h := target.serving()
		if h == nil {
			return ErrRefused
		}
		var err error
		answer, err = do(ctx, h)
		return err
	})
	return answer, err
}

// Propose implements cluster.Caller; with SetDuplicates it may arrive twice.
func (e *endpoint) Propose(ctx context.Context, to cluster.Peer, batches []cluster.RawBatch) ([]cluster.Reply, error) {
	send := func(ctx context.Context) ([]cluster.Reply, error) {
		return call(ctx, e, to, batches, func(ctx context.Context, h cluster.Handler) ([]cluster.Reply, error) {
			return h.HandlePropose(ctx, batches)
		})
	}
	if e.network.again() {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), e.network.bound())
			defer cancel()
			_, _ = send(ctx) // the answer of the second copy reaches nobody
		}()
	}
	return send(ctx)
}

// ReadIndex implements cluster.Caller.
func (e *endpoint) ReadIndex(ctx context.Context, to cluster.Peer) (uint64, error) {
	return call(ctx, e, to, nil, func(ctx context.Context, h cluster.Handler) (uint64, error) { return h.HandleReadIndex(ctx) })
}

// StateHash implements cluster.Caller.
func (e *endpoint) StateHash(ctx context.Context, to cluster.Peer, index uint64) (cluster.HashAnswer, error) {
	return call(ctx, e, to, nil, func(ctx context.Context, h cluster.Handler) (cluster.HashAnswer, error) {
		return h.HandleStateHash(ctx, index)
	})
}

// FetchEntry implements cluster.Caller.
func (e *endpoint) FetchEntry(ctx context.Context, to cluster.Peer, index uint64) (cluster.RawEntry, error) {
	return call(ctx, e, to, nil, func(ctx context.Context, h cluster.Handler) (cluster.RawEntry, error) {
		return h.HandleFetchEntry(ctx, index)
	})
}

// Status implements cluster.Caller.
func (e *endpoint) Status(ctx context.Context, to cluster.Peer) (cluster.Status, error) {
	return call(ctx, e, to, nil, func(ctx context.Context, h cluster.Handler) (cluster.Status, error) { return h.HandleStatus(ctx) })
}

// Change implements cluster.Caller.
func (e *endpoint) Change(ctx context.Context, to cluster.Peer, c cluster.Change) (cluster.ChangeAnswer, error) {
	return call(ctx, e, to, nil, func(ctx context.Context, h cluster.Handler) (cluster.ChangeAnswer, error) {
		return h.HandleChange(ctx, c)
	})
}

// Departure implements cluster.Caller.
func (e *endpoint) Departure(ctx context.Context, to cluster.Peer, d cluster.Departure) error {
	_, err := call(ctx, e, to, nil, func(ctx context.Context, h cluster.Handler) (struct{}, error) {
		return struct{}{}, h.HandleDeparture(ctx, d)
	})
	return err
}
