package core

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/policy"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// maxTree bounds a tree, in nodes.
const maxTree = 1000

// Tree shows what ends with a token or a lease: the tokens and leases that it owns,
// those that they own, and so on.
func (s *Leases) Tree(ctx context.Context, c Caller, r *conclavev1.TreeLeasesRequest) (*conclavev1.TreeLeasesResponse, error) {
	return call(ctx, s.pipeline, c, method[*conclavev1.TreeLeasesRequest, *conclavev1.TreeLeasesResponse]{
		name: conclavev1.Leases_Tree_FullMethodName, capability: policy.CapabilityList, sudo: r.Id != "" || r.Accessor != "",
		path: func(r *conclavev1.TreeLeasesRequest) string {
			switch {
			case r.Accessor != "":
				return "sys/leases/tree-accessor/" + r.Accessor
			case r.Id != "":
				return "sys/leases/tree/" + r.Id
			}
			return "sys/leases/tree-self"
		},
		handle: (*tx).leaseTree,
		finish: func(resp *conclavev1.TreeLeasesResponse, done engine.Commit) { resp.Index = done.Index },
	}, r)
}

func (t *tx) leaseTree(r *conclavev1.TreeLeasesRequest) (*conclavev1.TreeLeasesResponse, error) {
	root, err := t.treeRoot(r)
	if err != nil {
		return nil, err
	}
	resp := &conclavev1.TreeLeasesResponse{}
	return resp, t.plantTree(resp, root, 0)
}

// treeRoot is the lease that a tree begins with.
func (t *tx) treeRoot(r *conclavev1.TreeLeasesRequest) (fsm.Key, error) {
	switch {
	case r.Id != "" && r.Accessor != "":
		return nil, &engine.InvalidError{Why: "name a lease or the accessor of a token, not both"}
	case r.Id != "":
		key, _, err := t.usableLease(r.Id)
		return key, err
	case r.Accessor != "":
		token, err := t.TokenByAccessor(r.Accessor)
		if err == nil && token == nil {
			err = &engine.NotFoundError{What: "token with this accessor"}
		}
		if err != nil {
			return nil, err
		}
		return token.lease, nil
	}
	if t.who == nil || t.who.lease == nil {
		return nil, &engine.InvalidError{Why: "a batch token owns nothing"}
	}
	return t.who.lease, nil
}

// plantTree adds the lease at key and what it owns. The depth of leases is bounded
// when they are granted.
func (t *tx) plantTree(resp *conclavev1.TreeLeasesResponse, key fsm.Key, depth uint32) error {
	if len(resp.Nodes) == maxTree {
		resp.More = true
		return nil
	}
	node, err := t.treeNode(key)
	if err != nil || node == nil {
		return err
	}
	node.Depth = depth
	resp.Nodes = append(resp.Nodes, node)
	owned, err := t.view.Owned(key)
	if err != nil {
		return err
	}
	for !resp.More && owned.Next() {
		if err := t.plantTree(resp, owned.Key(), depth+1); err != nil {
			return firstError(err, owned.Close())
		}
	}
	return owned.Close()
}

// treeNode describes a lease that is alive and known by a name: a lease of the Leases
// calls, or a token; nil for any other.
func (t *tx) treeNode(key fsm.Key) (*conclavev1.LeaseNode, error) {
	l, usable, err := t.view.Lease(key)
	if err != nil || l == nil || !usable {
		return nil, err
	}
	node := &conclavev1.LeaseNode{State: l.State.String(), ExpiresAt: timestamppb.New(l.Expires.Time())}
	switch fsm.Space(key[0]) {
	case spaceLease:
		segments, err := t.barrier.Unblind(spaceLease, key)
		if err != nil {
			return nil, err
		}
		node.Id = engine.Path(segments).String()
		return node, nil
	case spaceToken:
		who, err := t.identityAt(key)
		if err != nil || who == nil {
			return nil, err
		}
		node.Accessor, node.DisplayName = who.token.Accessor, who.token.Name
		return node, nil
	}
	return nil, nil
}
