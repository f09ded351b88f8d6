package grpc

import (
	"context"
	"crypto/x509"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/kv"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Node is the node behind the API. Before the cluster is founded it has no
// rooms to answer requests with, and Rooms says so.
type Node interface {
	Rooms() (*Rooms, error)
	Status(ctx context.Context) (*conclavev1.GetStatusResponse, error)
	Init(ctx context.Context, r *conclavev1.InitRequest) (*conclavev1.InitResponse, error)
	Unseal(ctx context.Context, r *conclavev1.UnsealRequest) (*conclavev1.UnsealResponse, error)
	Seal(ctx context.Context, c core.Caller) error
	Join(ctx context.Context, r *conclavev1.JoinRequest) (*conclavev1.JoinResponse, error)
	// Renew answers a member that has proved, in its handshake, to hold the key
	// of certificate. The cluster's authority vouches for that one.
	Renew(ctx context.Context, certificate *x509.Certificate) (*conclavev1.JoinResponse, error)
	Members(ctx context.Context, c core.Caller) (*conclavev1.MembersResponse, error)
	RemoveMember(ctx context.Context, c core.Caller, id string) error
	TransferLeadership(ctx context.Context, c core.Caller, id string) (leaderID string, err error)
}

// Rooms is what answers requests on a node of a founded cluster.
type Rooms struct {
	Pipeline  *core.Pipeline
	Secrets   *kv.Engine
	Leases    *core.Leases
	Admission *core.Admission
}

// secretsMount is the path of the mount that the Secrets service shows, unless a
// request names another.
const secretsMount = "secret/"

// mountOf is the path of the mount that a request is about.
func mountOf(r any) (string, error) {
	named, ok := r.(interface{ GetMount() string })
	if !ok || named.GetMount() == "" {
		return secretsMount, nil
	}
	p, err := engine.ParsePath(strings.TrimSuffix(named.GetMount(), "/"), 0)
	if err != nil {
		return "", invalid("write it as conclave secrets list shows it", "the mount: %v", err)
	}
	return p.String() + "/", nil
}

type secrets struct {
	conclavev1.UnimplementedSecretsServer
	node Node
}

// secret answers a call with a method of the kv engine.
func secret[Req, Resp proto.Message](ctx context.Context, n Node, method func(*kv.Engine) engine.Method[Req, Resp], r Req) (Resp, error) {
	rooms, err := n.Rooms()
	if err != nil {
		var none Resp
		return none, err
	}
	mount, err := mountOf(r)
	if err != nil {
		var none Resp
		return none, err
	}
	return core.Call(ctx, rooms.Pipeline, caller(ctx), mount, method(rooms.Secrets), r)
}

func (s secrets) Put(ctx context.Context, r *conclavev1.PutSecretRequest) (*conclavev1.PutSecretResponse, error) {
	return secret(ctx, s.node, (*kv.Engine).Put, r)
}

func (s secrets) Get(ctx context.Context, r *conclavev1.GetSecretRequest) (*conclavev1.GetSecretResponse, error) {
	return secret(ctx, s.node, (*kv.Engine).Get, r)
}

func (s secrets) List(ctx context.Context, r *conclavev1.ListSecretsRequest) (*conclavev1.ListSecretsResponse, error) {
	return secret(ctx, s.node, (*kv.Engine).List, r)
}

func (s secrets) Delete(ctx context.Context, r *conclavev1.DeleteSecretRequest) (*conclavev1.DeleteSecretResponse, error) {
	return secret(ctx, s.node, (*kv.Engine).Delete, r)
}

func (s secrets) Undelete(ctx context.Context, r *conclavev1.UndeleteSecretRequest) (*conclavev1.UndeleteSecretResponse, error) {
	return secret(ctx, s.node, (*kv.Engine).Undelete, r)
}

func (s secrets) Destroy(ctx context.Context, r *conclavev1.DestroySecretRequest) (*conclavev1.DestroySecretResponse, error) {
	return secret(ctx, s.node, (*kv.Engine).Destroy, r)
}

func (s secrets) Rollback(ctx context.Context, r *conclavev1.RollbackSecretRequest) (*conclavev1.RollbackSecretResponse, error) {
	return secret(ctx, s.node, (*kv.Engine).Rollback, r)
}

func (s secrets) GetMetadata(ctx context.Context, r *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error) {
	return secret(ctx, s.node, (*kv.Engine).GetMetadata, r)
}

func (s secrets) PutMetadata(ctx context.Context, r *conclavev1.PutMetadataRequest) (*conclavev1.PutMetadataResponse, error) {
	return secret(ctx, s.node, (*kv.Engine).PutMetadata, r)
}

func (s secrets) DeleteMetadata(ctx context.Context, r *conclavev1.DeleteMetadataRequest) (*conclavev1.DeleteMetadataResponse, error) {
	return secret(ctx, s.node, (*kv.Engine).DeleteMetadata, r)
}

type leases struct {
	conclavev1.UnimplementedLeasesServer
	node Node
}

// lease answers a call with a method of core.Leases.
func lease[Req, Resp any](ctx context.Context, n Node, method func(*core.Leases, context.Context, core.Caller, Req) (Resp, error), r Req) (Resp, error) {
	rooms, err := n.Rooms()
	if err != nil {
		var none Resp
		return none, err
	}
	return method(rooms.Leases, ctx, caller(ctx), r)
}

func (s leases) Grant(ctx context.Context, r *conclavev1.GrantLeaseRequest) (*conclavev1.GrantLeaseResponse, error) {
	return lease(ctx, s.node, (*core.Leases).Grant, r)
}

func (s leases) Renew(ctx context.Context, r *conclavev1.RenewLeaseRequest) (*conclavev1.RenewLeaseResponse, error) {
	return lease(ctx, s.node, (*core.Leases).Renew, r)
}

func (s leases) Revoke(ctx context.Context, r *conclavev1.RevokeLeaseRequest) (*conclavev1.RevokeLeaseResponse, error) {
	return lease(ctx, s.node, (*core.Leases).Revoke, r)
}

func (s leases) Lookup(ctx context.Context, r *conclavev1.LookupLeaseRequest) (*conclavev1.LookupLeaseResponse, error) {
	return lease(ctx, s.node, (*core.Leases).Lookup, r)
}

func (s leases) List(ctx context.Context, r *conclavev1.ListLeasesRequest) (*conclavev1.ListLeasesResponse, error) {
	return lease(ctx, s.node, (*core.Leases).List, r)
}

func (s leases) Tree(ctx context.Context, r *conclavev1.TreeLeasesRequest) (*conclavev1.TreeLeasesResponse, error) {
	return lease(ctx, s.node, (*core.Leases).Tree, r)
}

type operator struct {
	conclavev1.UnimplementedOperatorServer
	node Node
}

func (s operator) Init(ctx context.Context, r *conclavev1.InitRequest) (*conclavev1.InitResponse, error) {
	return s.node.Init(ctx, r)
}

func (s operator) Unseal(ctx context.Context, r *conclavev1.UnsealRequest) (*conclavev1.UnsealResponse, error) {
	return s.node.Unseal(ctx, r)
}

func (s operator) Seal(ctx context.Context, _ *conclavev1.SealRequest) (*conclavev1.SealResponse, error) {
	return &conclavev1.SealResponse{}, s.node.Seal(ctx, caller(ctx))
}

func (s operator) CreateJoinToken(ctx context.Context, r *conclavev1.CreateJoinTokenRequest) (*conclavev1.CreateJoinTokenResponse, error) {
	rooms, err := s.node.Rooms()
	if err != nil {
		return nil, err
	}
	return rooms.Admission.CreateJoinToken(ctx, caller(ctx), r)
}

// Join admits a node that shows a token. One that shows the certificate of a
// member instead, and no token, is a member: it gets that certificate anew.
func (s operator) Join(ctx context.Context, r *conclavev1.JoinRequest) (*conclavev1.JoinResponse, error) {
	if certificate := verified(ctx); certificate != nil && r.Token == "" {
		return s.node.Renew(ctx, certificate)
	}
	return s.node.Join(ctx, r)
}

// verified is the certificate that the caller showed in its handshake and that
// the listener's authority vouches for, or nil. Only members have one.
func verified(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0][0]
}

func (s operator) Members(ctx context.Context, _ *conclavev1.MembersRequest) (*conclavev1.MembersResponse, error) {
	return s.node.Members(ctx, caller(ctx))
}

func (s operator) RemoveMember(ctx context.Context, r *conclavev1.RemoveMemberRequest) (*conclavev1.RemoveMemberResponse, error) {
	return &conclavev1.RemoveMemberResponse{}, s.node.RemoveMember(ctx, caller(ctx), r.Id)
}

func (s operator) TransferLeadership(ctx context.Context, r *conclavev1.TransferLeadershipRequest) (*conclavev1.TransferLeadershipResponse, error) {
	leader, err := s.node.TransferLeadership(ctx, caller(ctx), r.Id)
	return &conclavev1.TransferLeadershipResponse{LeaderId: leader}, err
}

type status struct {
	conclavev1.UnimplementedStatusServer
	node Node
}

func (s status) Get(ctx context.Context, _ *conclavev1.GetStatusRequest) (*conclavev1.GetStatusResponse, error) {
	return s.node.Status(ctx)
}
