package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// secrets is how many secrets the clients contend for.
const secrets = 4

func secretPath(i int) string { return fmt.Sprintf("app/secret-%d", i) }

// granted is a lease that some client got.
type granted struct {
	id  string
	ttl time.Duration
}

func (r *run) keepLease(l granted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leases = append(r.leases, l)
}

func (r *run) knownLeases() []granted {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.leases)
}

// canary begins every value that is written, and must be seen nowhere outside the seal.
const canary = "the canary of client "

// pick chooses the next request, of the workload.
func (c *client) pick(w Workload) *history.Op {
	switch w {
	case Leases:
		return c.pickLease()
	case Tokens:
		return c.pickTokens()
	case Policies:
		return c.pickPolicies()
	case Wrapping:
		return c.pickWrapping()
	}
	path := secretPath(c.rng.IntN(secrets))
	switch p := c.rng.Float64(); {
	case p < 0.38:
		return c.pickRead(path)
	case p < 0.62:
		return c.secretOp(history.Put, path)
	case p < 0.84:
		o := c.secretOp(history.Put, path)
		current := c.versions[path]
		o.CAS = &current
		return o
	case p < 0.91:
		return c.secretOp(history.Delete, path)
	case p < 0.97:
		return c.versioned(history.Undelete, path)
	default:
		return c.versioned(history.Destroy, path)
	}
}

func (c *client) pickRead(path string) *history.Op {
	o := c.secretOp(history.Get, path)
	switch p := c.rng.Float64(); {
	case p < 0.1 && c.versions[path] > 0:
		o.Version = c.versions[path]
	case p < 0.2:
		o.Level = conclavev1.Consistency_CONSISTENCY_LOCAL
	case p < 0.3:
		o.Level, o.AtLeast = conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX, c.seen
	case p < 0.4:
		o.Level, o.MaxAge = conclavev1.Consistency_CONSISTENCY_BOUNDED, c.run.options.slow(200*time.Millisecond)
	}
	return o
}

func (c *client) secretOp(kind history.Kind, path string) *history.Op {
	o := &history.Op{Kind: kind, Key: path}
	if kind == history.Put {
		o.Value = fmt.Sprintf("%s%d request %d", canary, c.id, c.serial)
	}
	return o
}

// versioned is a change of a version that the client has heard of, or guesses.
func (c *client) versioned(kind history.Kind, path string) *history.Op {
	o := c.secretOp(kind, path)
	o.Version = max(1, c.versions[path])
	return o
}

// leaseTTLs are short, so that leases expire while a run lasts.
var leaseTTLs = []time.Duration{400 * time.Millisecond, 900 * time.Millisecond, 2 * time.Second}

func (c *client) pickLease() *history.Op {
	leases := c.run.knownLeases()
	if len(leases) == 0 || c.rng.Float64() < 0.2 {
		return &history.Op{Kind: history.Grant, TTL: c.run.options.leisurely(leaseTTLs[c.rng.IntN(len(leaseTTLs))])}
	}
	recent := leases[max(0, len(leases)-4):]
	l := recent[c.rng.IntN(len(recent))]
	switch p := c.rng.Float64(); {
	case p < 0.5:
		return c.leaseOp(history.Lookup, l)
	case p < 0.9:
		return c.leaseOp(history.Renew, l)
	default:
		return c.leaseOp(history.Revoke, l)
	}
}

func (c *client) leaseOp(kind history.Kind, l granted) *history.Op {
	return &history.Op{Kind: kind, Key: l.id, TTL: l.ttl}
}

// call sends o to p and puts what comes back into a.
func (c *client) call(ctx context.Context, p *testcluster.Process, o *history.Op, key string, a *answer) error {
	switch o.Kind {
	case history.Put, history.Get, history.Delete, history.Undelete, history.Destroy:
		return c.callSecrets(ctx, p, o, key, a)
	}
	if model.IsAccess(o.Kind) {
		return c.callAccess(ctx, p, o, a)
	}
	return c.callLeases(ctx, p, o, key, a)
}

func (c *client) callSecrets(ctx context.Context, p *testcluster.Process, o *history.Op, key string, a *answer) error {
	root, w := c.run.sim.Root(), &conclavev1.WriteOptions{IdempotencyKey: key}
	switch o.Kind {
	case history.Put:
		resp, err := core.Call(ctx, p.Pipeline, root, "secret/", p.Secrets.Put(), &conclavev1.PutSecretRequest{Path: o.Key, Cas: o.CAS, Write: w,
			Data: map[string]*conclavev1.Field{"value": {Kind: &conclavev1.Field_Text{Text: o.Value}}}})
		a.number, a.index = resp.GetVersion().GetVersion(), resp.GetIndex()
		return err
	case history.Get:
		resp, err := core.Call(ctx, p.Pipeline, root, "secret/", p.Secrets.Get(), &conclavev1.GetSecretRequest{Path: o.Key, Version: o.Version,
			Read: &conclavev1.ReadOptions{Consistency: o.Level, AtLeastIndex: o.AtLeast, MaxAge: durationpb.New(o.MaxAge)}})
		a.number, a.index, a.read = resp.GetSecret().GetVersion().GetVersion(), resp.GetIndex(), resp.GetSecret().GetData()["value"].GetText()
		return err
	case history.Delete:
		resp, err := core.Call(ctx, p.Pipeline, root, "secret/", p.Secrets.Delete(), &conclavev1.DeleteSecretRequest{Path: o.Key, Write: w})
		a.index = resp.GetIndex()
		return err
	case history.Undelete:
		resp, err := core.Call(ctx, p.Pipeline, root, "secret/", p.Secrets.Undelete(), &conclavev1.UndeleteSecretRequest{Path: o.Key, Versions: []uint64{o.Version}, Write: w})
		a.index = resp.GetIndex()
		return err
	}
	resp, err := core.Call(ctx, p.Pipeline, root, "secret/", p.Secrets.Destroy(), &conclavev1.DestroySecretRequest{Path: o.Key, Versions: []uint64{o.Version}, Write: w})
	a.index = resp.GetIndex()
	return err
}

func (c *client) callLeases(ctx context.Context, p *testcluster.Process, o *history.Op, key string, a *answer) error {
	root, w := c.run.sim.Root(), &conclavev1.WriteOptions{IdempotencyKey: key}
	var l *conclavev1.Lease
	var err error
	switch o.Kind {
	case history.Grant:
		var resp *conclavev1.GrantLeaseResponse
		resp, err = p.Leases.Grant(ctx, root, &conclavev1.GrantLeaseRequest{Prefix: "jobs", Ttl: durationpb.New(o.TTL), MaxTtl: durationpb.New(6 * o.TTL), Write: w})
		l, a.index = resp.GetLease(), resp.GetIndex()
	case history.Renew:
		var resp *conclavev1.RenewLeaseResponse
		resp, err = p.Leases.Renew(ctx, root, &conclavev1.RenewLeaseRequest{Id: o.Key, Ttl: durationpb.New(o.TTL), Write: w})
		l, a.index = resp.GetLease(), resp.GetIndex()
	case history.Revoke:
		var resp *conclavev1.RevokeLeaseResponse
		resp, err = p.Leases.Revoke(ctx, root, &conclavev1.RevokeLeaseRequest{Id: o.Key, Write: w})
		a.index = resp.GetIndex()
	default:
		var resp *conclavev1.LookupLeaseResponse
		resp, err = p.Leases.Lookup(ctx, root, &conclavev1.LookupLeaseRequest{Id: o.Key})
		l, a.index = resp.GetLease(), resp.GetIndex()
	}
	if l != nil {
		a.id, a.number, a.expires = l.Id, l.Generation, l.ExpiresAt.AsTime()
	}
	return err
}
