package core

import (
	"context"
	"errors"
	"time"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/policy"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// An Act is something that is asked of this node, and that no engine answers. Its
// path stands for it in policies and in the audit log.
type Act struct {
	Path       string
	Capability policy.Capability
	Sudo       bool
	// Quorum: whether the caller may is asked of the cluster as it is now. Else what
	// this node has applied is enough to let a caller in, so that a node can be
	// sealed, and looked at, when the cluster has no leader.
	Quorum bool
}

// permitPatience bounds how long a refusal waits for a quorum to confirm it.
const permitPatience = 2 * time.Second

// Permit checks that the caller may do an act, and records it. It returns the name
// of the request in the audit log. A refusal by what this node has applied may come
// of being behind, with a token that was made a moment ago on another node: a
// quorum confirms it, if there is one.
func (p *Pipeline) Permit(ctx context.Context, c Caller, a Act) (id string, err error) {
	if a.Quorum {
		return p.permit(ctx, c, a, nil)
	}
	id, err = p.permit(ctx, c, a, &conclavev1.ReadOptions{Consistency: conclavev1.Consistency_CONSISTENCY_LOCAL})
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Reason != conclavev1.Reason_REASON_UNAUTHENTICATED && refusal.Reason != conclavev1.Reason_REASON_DENIED {
		return id, err
	}
	short, cancel := context.WithTimeout(ctx, permitPatience)
	defer cancel()
	current, cerr := p.permit(short, c, a, nil)
	if errors.As(cerr, &refusal) && refusal.Reason == conclavev1.Reason_REASON_NO_LEADER {
		return id, err
	}
	return current, cerr
}

func (p *Pipeline) permit(ctx context.Context, c Caller, a Act, read *conclavev1.ReadOptions) (id string, err error) {
	r := &request{caller: c, name: a.Path, read: read, route: func(*tx) (*plan, error) {
		return &plan{access: policy.Request{Path: a.Path, Capability: a.Capability, Sudo: a.Sudo},
			handle: func() (reply, error) { return reply{finish: func(engine.Commit) {}}, nil }}, nil
	}}
	_, err = p.do(ctx, r)
	return r.id, err
}
