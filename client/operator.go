package client

import (
	"context"
	"time"

	"google.golang.org/grpc"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Operator are the calls on the cluster itself. None carries an idempotency
// key, so an outcome that is unknown is reported and not resolved.
//
// Init, Unseal and Seal act on the one node that answers: give their client a
// single address.
type Operator struct{ c *Client }

// An InitRequest says how many shares to make and how many of them unseal.
type InitRequest struct {
	Shares, Threshold int
	// AgeRecipients: none, or one for each share, to whom it is encrypted.
	AgeRecipients []string
}

// An InitResult holds the only copy of the shares and the root token.
type InitResult struct {
	ClusterID string
	Shares    []Share // armored age files when recipients were given
	Threshold int
	RootToken Token
	CAPEM     []byte
}

// A Share is one share of the root key. It prints as redacted, like a Token.
type Share struct{ Token }

// NewShare wraps the text of a share.
func NewShare(text string) Share { return Share{NewToken(text)} }

// Init initialises a node as the first of a new cluster. The node is sealed
// afterwards.
func (o Operator) Init(ctx context.Context, r InitRequest) (InitResult, error) {
	request := &conclavev1.InitRequest{Shares: uint32(max(0, r.Shares)), Threshold: uint32(max(0, r.Threshold)), AgeRecipients: r.AgeRecipients}
	got, err := invoke(ctx, o.c, call{activity: "initialising the cluster", effect: bareWrite}, request,
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.InitRequest) (*conclavev1.InitResponse, error) {
			return conclavev1.NewOperatorClient(conn).Init(ctx, r)
		})
	if err != nil {
		return InitResult{}, err
	}
	out := InitResult{
		ClusterID: got.GetClusterId(), Threshold: int(got.GetThreshold()),
		RootToken: NewToken(got.GetRootToken()), CAPEM: got.GetCaPem(),
	}
	for _, text := range got.GetShares() {
		out.Shares = append(out.Shares, NewShare(text))
	}
	return out, nil
}

// A Ceremony is the progress of unsealing one node.
type Ceremony struct {
	Sealed       bool
	Threshold    int
	ShareIndexes []uint32 // given so far
}

// Unseal gives one share to the node.
func (o Operator) Unseal(ctx context.Context, share Share) (Ceremony, error) {
	return o.unseal(ctx, "giving a share", &conclavev1.UnsealRequest{Share: share.Reveal()})
}

// ResetUnseal makes the node forget the shares given so far.
func (o Operator) ResetUnseal(ctx context.Context) (Ceremony, error) {
	return o.unseal(ctx, "forgetting the shares given so far", &conclavev1.UnsealRequest{Reset_: true})
}

func (o Operator) unseal(ctx context.Context, activity string, request *conclavev1.UnsealRequest) (Ceremony, error) {
	got, err := invoke(ctx, o.c, call{activity: activity, effect: bareWrite}, request,
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.UnsealRequest) (*conclavev1.UnsealResponse, error) {
			return conclavev1.NewOperatorClient(conn).Unseal(ctx, r)
		})
	if err != nil {
		return Ceremony{}, err
	}
	return Ceremony{got.GetSealed(), int(got.GetThreshold()), got.GetShareIndexes()}, nil
}

// Seal makes the node forget its keys.
func (o Operator) Seal(ctx context.Context) error {
	_, err := invoke(ctx, o.c, call{activity: "sealing the node", effect: bareWrite}, &conclavev1.SealRequest{},
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.SealRequest) (*conclavev1.SealResponse, error) {
			return conclavev1.NewOperatorClient(conn).Seal(ctx, r)
		})
	return err
}

// A JoinToken lets one node join once.
type JoinToken struct {
	Token     Token
	ExpiresAt time.Time
}

// CreateJoinToken makes a token for one new node. Zero ttl: the server's hour.
func (o Operator) CreateJoinToken(ctx context.Context, ttl time.Duration) (JoinToken, error) {
	request := &conclavev1.CreateJoinTokenRequest{Ttl: optionalDuration(ttl)}
	got, err := invoke(ctx, o.c, call{activity: "creating a join token", effect: bareWrite}, request,
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.CreateJoinTokenRequest) (*conclavev1.CreateJoinTokenResponse, error) {
			return conclavev1.NewOperatorClient(conn).CreateJoinToken(ctx, r)
		})
	if err != nil {
		return JoinToken{}, err
	}
	return JoinToken{NewToken(got.GetToken()), timeFromProto(got.GetExpiresAt())}, nil
}

// A Member is one node as the cluster sees it.
type Member struct {
	ID            string
	PeerAddress   string
	APIAddress    string
	GossipAddress string
	Voter         bool
	Leader        bool
	Alive         bool
	Sealed        bool
	AppliedIndex  uint64
	Lag           uint64 // entries behind the leader
	Version       string
}

// Members lists the nodes of the cluster, and the index of the answer.
func (o Operator) Members(ctx context.Context) ([]Member, uint64, error) {
	got, err := invoke(ctx, o.c, call{activity: "listing members", effect: reads}, &conclavev1.MembersRequest{},
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.MembersRequest) (*conclavev1.MembersResponse, error) {
			return conclavev1.NewOperatorClient(conn).Members(ctx, r)
		})
	if err != nil {
		return nil, 0, err
	}
	var out []Member
	for _, m := range got.GetMembers() {
		out = append(out, Member{
			ID: m.GetId(), PeerAddress: m.GetPeerAddress(), APIAddress: m.GetApiAddress(), GossipAddress: m.GetGossipAddress(),
			Voter: m.GetVoter(), Leader: m.GetLeader(), Alive: m.GetAlive(), Sealed: m.GetSealed(),
			AppliedIndex: m.GetAppliedIndex(), Lag: m.GetLag(), Version: m.GetVersion(),
		})
	}
	return out, got.GetIndex(), nil
}

// RemoveMember takes a node out of the cluster. It is refused (ErrConflict,
// ReasonUnsafe) when the rest would have no quorum.
func (o Operator) RemoveMember(ctx context.Context, id string) error {
	_, err := invoke(ctx, o.c, call{activity: activity("removing member", id), effect: bareWrite}, &conclavev1.RemoveMemberRequest{Id: id},
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.RemoveMemberRequest) (*conclavev1.RemoveMemberResponse, error) {
			return conclavev1.NewOperatorClient(conn).RemoveMember(ctx, r)
		})
	return err
}

// TransferLeadership makes another voter the leader: the named one, or the
// best candidate when id is empty. It returns the id of the new leader.
func (o Operator) TransferLeadership(ctx context.Context, id string) (string, error) {
	got, err := invoke(ctx, o.c, call{activity: "transferring leadership", effect: bareWrite}, &conclavev1.TransferLeadershipRequest{Id: id},
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.TransferLeadershipRequest) (*conclavev1.TransferLeadershipResponse, error) {
			return conclavev1.NewOperatorClient(conn).TransferLeadership(ctx, r)
		})
	return got.GetLeaderId(), err
}
