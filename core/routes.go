package core

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/policy"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// MountRoutes is a mount and what answers in it: what help and OpenAPI describe.
type MountRoutes struct {
	Path    string // ends in a slash
	Type    string
	Summary string // of the type
	// Of lists the routes of the mount, At those of a path in it.
	Of func() []engine.Route
	At func(path string) []engine.Route
}

// MountRoutes lists the mounts in which the caller may do anything, in the order of
// their paths. Types that this binary does not know are not among them.
func (t *tx) MountRoutes() ([]MountRoutes, error) {
	table, err := t.mounts()
	if err != nil {
		return nil, err
	}
	var all []MountRoutes
	for _, m := range table.byPath {
		if m.routes == nil || !t.MayAny(m.Path) {
			continue
		}
		backend := t.cache.backend(m.Path, m.Type)
		all = append(all, MountRoutes{Path: m.Path, Type: m.Type, Summary: backend.Summary(), Of: m.routes.All, At: m.routes.At})
	}
	slices.SortFunc(all, func(a, b MountRoutes) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// helpPath is the route of the system mount that tells what a path answers. It shows
// a mount to who may do anything in it.
const helpPath = "sys/internal/help/"

// planHelp has the system mount answer what a path is for. It takes a token, and no
// right beyond what the route demands: who may use a mount may know how.
func (t *tx) planHelp(ctx context.Context, c Caller, q Request) (*plan, error) {
	asked := Request{Verb: engine.VerbRead, Path: helpPath + q.Path}
	out, err := t.plan(ctx, c, asked)
	if err != nil || out.missed != nil {
		return out, err
	}
	handle := out.handle
	out.open, out.access.Path = true, q.Path
	out.handle = func() (reply, error) {
		if t.who, err = t.identify(c); err != nil {
			return reply{}, err
		}
		t.account.identified(t.who)
		return handle()
	}
	return out, nil
}

// permitPatience bounds how long a refusal waits for a quorum to confirm it.
const permitPatience = 2 * time.Second

// Permit checks that the caller may do something to a path that stands for this
// node and that no engine answers, and records it. It returns the name of the
// request in the audit log.
//
// What this node has applied is enough to let a caller in, so that one can look at a
// node whose cluster has no quorum. A refusal may come of being behind, with a token
// that was made a moment ago on another node: a quorum confirms it, if there is one.
func (p *Pipeline) Permit(ctx context.Context, c Caller, path string, capability policy.Capability) (id string, err error) {
	id, err = p.permit(ctx, c, path, capability, &conclavev1.ReadOptions{Consistency: conclavev1.Consistency_CONSISTENCY_LOCAL})
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Reason != conclavev1.Reason_REASON_UNAUTHENTICATED && refusal.Reason != conclavev1.Reason_REASON_DENIED {
		return id, err
	}
	short, cancel := context.WithTimeout(ctx, permitPatience)
	defer cancel()
	current, cerr := p.permit(short, c, path, capability, nil)
	if errors.As(cerr, &refusal) && refusal.Reason == conclavev1.Reason_REASON_NO_LEADER {
		return id, err
	}
	return current, cerr
}

func (p *Pipeline) permit(ctx context.Context, c Caller, path string, capability policy.Capability, read *conclavev1.ReadOptions) (id string, err error) {
	r := &request{caller: c, name: path, read: read, route: func(*tx) (*plan, error) {
		return &plan{access: policy.Request{Path: path, Capability: capability},
			handle: func() (reply, error) { return reply{finish: func(engine.Commit) {}}, nil }}, nil
	}}
	_, err = p.do(ctx, r)
	return r.id, err
}
