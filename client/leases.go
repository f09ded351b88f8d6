package client

import (
	"context"
	"time"

	"google.golang.org/grpc"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Leases are the calls on leases.
type Leases struct{ c *Client }

// A Lease is something that ends by itself unless it is renewed.
type Lease struct {
	// ID is a path: the prefix and a random last segment.
	ID string
	// State is pending, active or revoking.
	State                             string
	IssuedAt, ExpiresAt, MaxExpiresAt time.Time
	Owner                             string // the lease that owns this one
	Data                              Data   // absent in listings
	Generation                        uint64 // rises with each renewal
	Index                             uint64 // of the state that this reflects
}

// A LeaseRequest says what to grant.
type LeaseRequest struct {
	// Prefix under which leases are listed and revoked together.
	Prefix string
	TTL    time.Duration
	// MaxTTL bounds all renewals. Zero: the server's bound.
	MaxTTL time.Duration
	// Owner is a lease with whose end this one ends; it may be empty.
	Owner string
	Data  Data
	WriteOptions
}

// Grant makes a lease.
func (l Leases) Grant(ctx context.Context, r LeaseRequest) (Lease, error) {
	k, write, err := l.c.write(activity("granting a lease under", r.Prefix), r.WriteOptions)
	if err != nil {
		return Lease{}, err
	}
	request := &conclavev1.GrantLeaseRequest{
		Prefix: r.Prefix, Ttl: optionalDuration(r.TTL), MaxTtl: optionalDuration(r.MaxTTL),
		Owner: r.Owner, Data: r.Data.proto(), Write: write,
	}
	got, err := invoke(ctx, l.c, k, request, func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.GrantLeaseRequest) (*conclavev1.GrantLeaseResponse, error) {
		return conclavev1.NewLeasesClient(conn).Grant(ctx, r)
	})
	if err != nil {
		return Lease{}, err
	}
	return leaseFromProto(got.GetLease(), got.GetIndex()), nil
}

// Renew moves the end of a lease to ttl from now, never past its maximum. Zero
// means the TTL that it was granted with.
func (l Leases) Renew(ctx context.Context, id string, ttl time.Duration, o WriteOptions) (Lease, error) {
	k, write, err := l.c.write(activity("renewing lease", id), o)
	if err != nil {
		return Lease{}, err
	}
	request := &conclavev1.RenewLeaseRequest{Id: id, Ttl: optionalDuration(ttl), Write: write}
	got, err := invoke(ctx, l.c, k, request, func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.RenewLeaseRequest) (*conclavev1.RenewLeaseResponse, error) {
		return conclavev1.NewLeasesClient(conn).Renew(ctx, r)
	})
	if err != nil {
		return Lease{}, err
	}
	return leaseFromProto(got.GetLease(), got.GetIndex()), nil
}

// Revoke ends a lease and what it owns. It returns the index of the write.
func (l Leases) Revoke(ctx context.Context, id string, o WriteOptions) (uint64, error) {
	return l.revoke(ctx, activity("revoking lease", id), &conclavev1.RevokeLeaseRequest{Id: id}, o)
}

// RevokePrefix ends every lease under a prefix and what they own.
func (l Leases) RevokePrefix(ctx context.Context, prefix string, o WriteOptions) (uint64, error) {
	return l.revoke(ctx, activity("revoking leases under", prefix), &conclavev1.RevokeLeaseRequest{Id: prefix, Prefix: true}, o)
}

func (l Leases) revoke(ctx context.Context, activity string, request *conclavev1.RevokeLeaseRequest, o WriteOptions) (uint64, error) {
	k, write, err := l.c.write(activity, o)
	if err != nil {
		return 0, err
	}
	request.Write = write
	got, err := invoke(ctx, l.c, k, request, func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.RevokeLeaseRequest) (*conclavev1.RevokeLeaseResponse, error) {
		return conclavev1.NewLeasesClient(conn).Revoke(ctx, r)
	})
	return got.GetIndex(), err
}

// Lookup reads one lease with its data.
func (l Leases) Lookup(ctx context.Context, id string, want Consistency) (Lease, error) {
	request := &conclavev1.LookupLeaseRequest{Id: id, Read: l.c.readOptions(want)}
	got, err := invoke(ctx, l.c, call{activity: activity("looking up lease", id), effect: reads}, request,
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.LookupLeaseRequest) (*conclavev1.LookupLeaseResponse, error) {
			return conclavev1.NewLeasesClient(conn).Lookup(ctx, r)
		})
	if err != nil {
		return Lease{}, err
	}
	return leaseFromProto(got.GetLease(), got.GetIndex()), nil
}

// A LeasePage is one page of leases, without their data.
type LeasePage struct {
	Leases []Lease
	More   bool
	Index  uint64
	Cursor []byte // of Walk: goes on behind this page
}

// A LeaseNode is one node of a tree: a lease, which has an ID, or a token, which has an
// accessor.
type LeaseNode struct {
	Depth       int // 0: the root; each node follows its owner
	ID          string
	Accessor    string
	DisplayName string // of a token
	State       string
	ExpiresAt   time.Time
}

// LeaseTree is what ends with a token or a lease.
type LeaseTree struct {
	Nodes []LeaseNode
	More  bool // there are more than are shown
	Index uint64
}

// LeaseRoot names what a tree begins with: a lease, a token by its accessor, or with
// neither the caller's own token.
type LeaseRoot struct{ ID, Accessor string }

// Tree reads what ends with a token or a lease: what it owns, what that owns, and so on.
func (l Leases) Tree(ctx context.Context, root LeaseRoot, want Consistency) (LeaseTree, error) {
	request := &conclavev1.TreeLeasesRequest{Id: root.ID, Accessor: root.Accessor, Read: l.c.readOptions(want)}
	got, err := invoke(ctx, l.c, call{activity: "reading a tree of leases", effect: reads}, request,
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.TreeLeasesRequest) (*conclavev1.TreeLeasesResponse, error) {
			return conclavev1.NewLeasesClient(conn).Tree(ctx, r)
		})
	if err != nil {
		return LeaseTree{}, err
	}
	tree := LeaseTree{More: got.GetMore(), Index: got.GetIndex()}
	for _, n := range got.GetNodes() {
		tree.Nodes = append(tree.Nodes, LeaseNode{Depth: int(n.GetDepth()), ID: n.GetId(), Accessor: n.GetAccessor(),
			DisplayName: n.GetDisplayName(), State: n.GetState(), ExpiresAt: timeFromProto(n.GetExpiresAt())})
	}
	return tree, nil
}

// LeaseWalk says which leases Walk reads. Zero means the stated default.
type LeaseWalk struct {
	// ExpiringWithin reads only leases that end within that time, the next to end first.
	// Zero: all, in an order of the store's own.
	ExpiringWithin time.Duration
	Cursor         []byte // of the page before; nil: from the start
	Limit          int    // of leases in a page, which may have fewer. 0: the server's, 1000
	Consistency    Consistency
}

// Walk reads the leases under a prefix page by page, however many there are: a page
// costs the cluster little more than what it returns. A page may be empty and have More.
func (l Leases) Walk(ctx context.Context, prefix string, o LeaseWalk) (LeasePage, error) {
	return l.list(ctx, &conclavev1.ListLeasesRequest{Prefix: prefix, Limit: uint32(max(0, o.Limit)), Read: l.c.readOptions(o.Consistency),
		Unsorted: true, ExpiringWithin: optionalDuration(o.ExpiringWithin), Cursor: o.Cursor})
}

// List reads the leases under a prefix, in the order of their ids. Each page looks at
// all of them: Walk is for many.
func (l Leases) List(ctx context.Context, prefix string, o ListOptions) (LeasePage, error) {
	return l.list(ctx, &conclavev1.ListLeasesRequest{Prefix: prefix, After: o.After, Limit: uint32(max(0, o.Limit)), Read: l.c.readOptions(o.Consistency)})
}

func (l Leases) list(ctx context.Context, request *conclavev1.ListLeasesRequest) (LeasePage, error) {
	got, err := invoke(ctx, l.c, call{activity: activity("listing leases under", request.Prefix), effect: reads}, request,
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.ListLeasesRequest) (*conclavev1.ListLeasesResponse, error) {
			return conclavev1.NewLeasesClient(conn).List(ctx, r)
		})
	if err != nil {
		return LeasePage{}, err
	}
	page := LeasePage{More: got.GetMore(), Index: got.GetIndex(), Cursor: got.GetCursor()}
	for _, lease := range got.GetLeases() {
		page.Leases = append(page.Leases, leaseFromProto(lease, got.GetIndex()))
	}
	return page, nil
}

func leaseFromProto(l *conclavev1.Lease, index uint64) Lease {
	return Lease{
		ID:           l.GetId(),
		State:        l.GetState(),
		IssuedAt:     timeFromProto(l.GetIssuedAt()),
		ExpiresAt:    timeFromProto(l.GetExpiresAt()),
		MaxExpiresAt: timeFromProto(l.GetMaxExpiresAt()),
		Owner:        l.GetOwner(),
		Data:         dataFromProto(l.GetData()),
		Generation:   l.GetGeneration(),
		Index:        index,
	}
}
