package client

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// A Client speaks to a cluster. It is safe for concurrent use. Its methods
// return *Error for everything that goes wrong in or on the way to a cluster.
type Client struct {
	// Secrets, Leases, Paths and Operator are the calls, by service.
	Secrets  Secrets
	Leases   Leases
	Paths    Paths
	Operator Operator

	config  Config
	pool    *pool
	session *session
}

// New checks the configuration and returns a client. It connects to nothing:
// connections are made when a call needs them. The caller must Close it.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	addresses, err := cfg.addresses()
	if err != nil {
		return nil, err
	}
	if err := cfg.Token.check(); err != nil {
		return nil, err
	}
	if err := checkReason(cfg.Reason); err != nil {
		return nil, err
	}
	tlsConfig, err := cfg.tlsConfig()
	if err != nil {
		return nil, err
	}
	p := &pool{}
	for _, a := range addresses {
		p.nodes = append(p.nodes, newNode(a, cfg, tlsConfig))
	}
	return assemble(cfg, p, &session{}), nil
}

func assemble(cfg Config, p *pool, s *session) *Client {
	c := &Client{config: cfg, pool: p, session: s}
	c.Secrets, c.Leases, c.Paths, c.Operator = Secrets{c: c}, Leases{c}, Paths{c}, Operator{c}
	return c
}

// Close ends all connections, also those of the client's sessions. Calls in
// progress fail.
func (c *Client) Close() error { return c.pool.close() }

// A session remembers the highest index that its client has seen.
type session struct {
	causal bool
	index  atomic.Uint64
}

func (s *session) saw(index uint64) {
	for {
		old := s.index.Load()
		if index <= old || s.index.CompareAndSwap(old, index) {
			return
		}
	}
}

// Session returns a client over the same connections whose reads, unless they
// ask for something else, reflect at least everything that this session has
// seen or written, on whatever node they land: read your own writes, and never
// back in time, at the price of a local read. Sessions do not know of each
// other.
func (c *Client) Session() *Client {
	return assemble(c.config, c.pool, &session{causal: true})
}

// LastIndex returns the highest index in any answer so far. Another client can
// hand it to AtLeast in order to see at least the same state.
func (c *Client) LastIndex() uint64 { return c.session.index.Load() }

// Status asks the first node that answers about itself. It needs no token and
// answers while the node is sealed.
func (c *Client) Status(ctx context.Context) (NodeStatus, error) {
	got, err := invoke(ctx, c, call{activity: "asking for the status", effect: reads}, &conclavev1.GetStatusRequest{},
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.GetStatusRequest) (*conclavev1.GetStatusResponse, error) {
			return conclavev1.NewStatusClient(conn).Get(ctx, r)
		})
	if err != nil {
		return NodeStatus{}, err
	}
	return nodeStatusFromProto(got), nil
}

// A NodeStatus is what a node says about itself.
type NodeStatus struct {
	Initialized bool
	Sealed      bool
	// Shares were made, Threshold of them unseal a node.
	Shares, Threshold int
	// ShareIndexes lists the shares given so far to unseal this node.
	ShareIndexes []uint32
	// ShareGeneration counts the times that shares were made.
	ShareGeneration uint32
	ClusterID       string
	NodeID          string
	// LeaderID and LeaderAPIAddress are empty when there is no leader.
	LeaderID         string
	LeaderAPIAddress string
	// Role is leader, follower, candidate, non-voter or uninitialized.
	Role         string
	Term         uint64
	CommitIndex  uint64
	AppliedIndex uint64
	Version      string
	// StateHash is hex.
	StateHash string
}

func nodeStatusFromProto(s *conclavev1.GetStatusResponse) NodeStatus {
	return NodeStatus{
		Initialized:      s.GetInitialized(),
		Sealed:           s.GetSealed(),
		Shares:           int(s.GetShares()),
		Threshold:        int(s.GetThreshold()),
		ShareIndexes:     s.GetShareIndexes(),
		ShareGeneration:  s.GetShareGeneration(),
		ClusterID:        s.GetClusterId(),
		NodeID:           s.GetNodeId(),
		LeaderID:         s.GetLeaderId(),
		LeaderAPIAddress: s.GetLeaderApiAddress(),
		Role:             s.GetRole(),
		Term:             s.GetTerm(),
		CommitIndex:      s.GetCommitIndex(),
		AppliedIndex:     s.GetAppliedIndex(),
		Version:          s.GetVersion(),
		StateHash:        s.GetStateHash(),
	}
}
