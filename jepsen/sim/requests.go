package sim

import (
	"context"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/workload"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// canary begins every value that is written, and must be seen nowhere outside the seal.
const canary = "the canary of client "

func (c *courier) callSecrets(ctx context.Context, p *testcluster.Process, o *history.Op, key string, a *workload.Answer) error {
	root, w := c.run.sim.Root(), &conclavev1.WriteOptions{IdempotencyKey: key}
	switch o.Kind {
	case history.Put:
		resp, err := core.Call(ctx, p.Pipeline, root, "secret/", p.Secrets.Put(), &conclavev1.PutSecretRequest{Path: o.Key, Cas: o.CAS, Write: w,
			Data: map[string]*conclavev1.Field{"value": {Kind: &conclavev1.Field_Text{Text: o.Value}}}})
		a.Number, a.Index = resp.GetVersion().GetVersion(), resp.GetIndex()
		return err
	case history.Get:
		resp, err := core.Call(ctx, p.Pipeline, root, "secret/", p.Secrets.Get(), &conclavev1.GetSecretRequest{Path: o.Key, Version: o.Version,
			Read: &conclavev1.ReadOptions{Consistency: o.Level, AtLeastIndex: o.AtLeast, MaxAge: durationpb.New(o.MaxAge)}})
		a.Number, a.Index, a.Read = resp.GetSecret().GetVersion().GetVersion(), resp.GetIndex(), resp.GetSecret().GetData()["value"].GetText()
		return err
	case history.Delete:
		resp, err := core.Call(ctx, p.Pipeline, root, "secret/", p.Secrets.Delete(), &conclavev1.DeleteSecretRequest{Path: o.Key, Write: w})
		a.Index = resp.GetIndex()
		return err
	case history.Undelete:
		resp, err := core.Call(ctx, p.Pipeline, root, "secret/", p.Secrets.Undelete(), &conclavev1.UndeleteSecretRequest{Path: o.Key, Versions: []uint64{o.Version}, Write: w})
		a.Index = resp.GetIndex()
		return err
	}
	resp, err := core.Call(ctx, p.Pipeline, root, "secret/", p.Secrets.Destroy(), &conclavev1.DestroySecretRequest{Path: o.Key, Versions: []uint64{o.Version}, Write: w})
	a.Index = resp.GetIndex()
	return err
}

func (c *courier) callLeases(ctx context.Context, p *testcluster.Process, o *history.Op, key string, a *workload.Answer) error {
	root, w := c.run.sim.Root(), &conclavev1.WriteOptions{IdempotencyKey: key}
	var l *conclavev1.Lease
	var err error
	switch o.Kind {
	case history.Grant:
		var resp *conclavev1.GrantLeaseResponse
		resp, err = p.Leases.Grant(ctx, root, &conclavev1.GrantLeaseRequest{Prefix: "jobs", Ttl: durationpb.New(o.TTL), MaxTtl: durationpb.New(6 * o.TTL), Write: w})
		l, a.Index = resp.GetLease(), resp.GetIndex()
	case history.Renew:
		var resp *conclavev1.RenewLeaseResponse
		resp, err = p.Leases.Renew(ctx, root, &conclavev1.RenewLeaseRequest{Id: o.Key, Ttl: durationpb.New(o.TTL), Write: w})
		l, a.Index = resp.GetLease(), resp.GetIndex()
	case history.Revoke:
		var resp *conclavev1.RevokeLeaseResponse
		resp, err = p.Leases.Revoke(ctx, root, &conclavev1.RevokeLeaseRequest{Id: o.Key, Write: w})
		a.Index = resp.GetIndex()
	default:
		var resp *conclavev1.LookupLeaseResponse
		resp, err = p.Leases.Lookup(ctx, root, &conclavev1.LookupLeaseRequest{Id: o.Key})
		l, a.Index = resp.GetLease(), resp.GetIndex()
	}
	if l != nil {
		a.ID, a.Number, a.Expires = l.Id, l.Generation, l.ExpiresAt.AsTime()
	}
	return err
}
