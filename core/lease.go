package core

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/policy"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// Leases answers the calls of the Leases service. A lease's id is a path: the
// prefix that the caller chose and a random last segment.
type Leases struct{ pipeline *Pipeline }

// NewLeases returns the lease calls on a pipeline.
func NewLeases(p *Pipeline) *Leases { return &Leases{p} }

const (
	maxLeaseBytes  = 64 << 10 // encoded payload of a lease
	maxLeaseListed = 1000
)

func (t *tx) leaseKey(id string) (fsm.Key, error) {
	p, err := engine.ParsePath(id, 0)
	if err != nil {
		return nil, err
	}
	return t.barrier.Blind(spaceLease, p)
}

// usableLease reads a lease that is alive, with all its owners.
func (t *tx) usableLease(id string) (fsm.Key, *fsm.Lease, error) {
	key, err := t.leaseKey(id)
	if err != nil {
		return nil, nil, err
	}
	l, usable, err := t.view.Lease(key)
	if err != nil {
		return nil, nil, err
	}
	if !usable && (l == nil || l.State != fsm.LeaseRevoking) {
		return nil, nil, refuse(conclavev1.Reason_REASON_NOT_FOUND, "no such lease, or it has ended", "")
	}
	return key, l, nil
}

// describe turns a row into what callers see; the payload comes separately.
func describe(id string, l *fsm.Lease) *conclavev1.Lease {
	out := &conclavev1.Lease{
		Id: id, State: l.State.String(), Generation: l.Generation, Ttl: durationpb.New(l.TTL),
		IssuedAt: timestamppb.New(l.Issued.Time()), ExpiresAt: timestamppb.New(l.Expires.Time()),
	}
	if l.MaxExpires != 0 {
		out.MaxExpiresAt = timestamppb.New(l.MaxExpires.Time())
		out.MaxTtl = durationpb.New(time.Duration(l.MaxExpires - l.Issued))
	}
	return out
}

// open fills in the sealed part of a lease.
func (t *tx) open(key fsm.Key, l *fsm.Lease, out *conclavev1.Lease) error {
	data, err := t.leaseData(key, l)
	if err != nil {
		return err
	}
	out.Owner, out.Data = data.Owner, data.Data
	return nil
}

// Grant creates a lease.
func (s *Leases) Grant(ctx context.Context, c Caller, r *conclavev1.GrantLeaseRequest) (*conclavev1.GrantLeaseResponse, error) {
	return call(ctx, s.pipeline, c, method[*conclavev1.GrantLeaseRequest, *conclavev1.GrantLeaseResponse]{
		name: conclavev1.Leases_Grant_FullMethodName, writes: true, capability: policy.CapabilityUpdate,
		path:   func(r *conclavev1.GrantLeaseRequest) string { return "sys/leases/grant/" + r.Prefix },
		lane:   func(r *conclavev1.GrantLeaseRequest) string { return r.Write.GetIdempotencyKey() },
		handle: s.grant,
		finish: func(resp *conclavev1.GrantLeaseResponse, done engine.Commit) {
			resp.Index = done.Index
			settleLease(resp.Lease, done.Time)
		},
	}, r)
}

func (s *Leases) grant(t *tx, r *conclavev1.GrantLeaseRequest) (*conclavev1.GrantLeaseResponse, error) {
	ttl, maxTTL := r.Ttl.AsDuration(), r.MaxTtl.AsDuration()
	switch {
	case ttl <= 0:
		return nil, &engine.InvalidError{Why: "a lease needs a ttl above zero"}
	case ttl > fsm.MaxTTL || maxTTL > fsm.MaxTTL:
		return nil, &engine.InvalidError{Why: "the ttl of a lease is above 100 years"}
	case maxTTL < 0:
		return nil, &engine.InvalidError{Why: "max_ttl must not be negative"}
	case maxTTL > 0 && ttl > maxTTL:
		return nil, &engine.InvalidError{Why: "ttl is above max_ttl"}
	}
	id, err := newLeaseID(s.pipeline.rand, r.Prefix)
	if err != nil {
		return nil, err
	}
	key, err := t.leaseKey(id)
	if err != nil {
		return nil, err
	}
	tally, err := t.tallyOf(id)
	if err != nil {
		return nil, err
	}
	op := fsm.Operation{Kind: fsm.OpGrantLease, Key: key, TTL: ttl, MaxTTL: maxTTL, State: fsm.LeaseActive, Tally: tally}
	if r.Owner != "" {
		ownerKey, owner, err := t.usableLease(r.Owner)
		var absent *Error
		if errors.As(err, &absent) {
			return nil, refuse(absent.Reason, "the owner is no lease, or has ended", "grant the owner first: conclave lease grant")
		}
		if err != nil {
			return nil, err
		}
		if owner.Depth >= fsm.MaxLeaseDepth {
			return nil, &engine.InvalidError{Why: fmt.Sprintf("more than %d leases would own one another", fsm.MaxLeaseDepth)}
		}
		op.Lease = ownerKey
	}
	if op.Value, err = t.sealLease(key, &storev1.LeaseData{Id: id, Owner: r.Owner, Data: r.Data}); err != nil {
		return nil, err
	}
	t.stage(op)
	lease := &conclavev1.Lease{Id: id, State: fsm.LeaseActive.String(), Generation: 1, Owner: r.Owner, Data: r.Data, Ttl: r.Ttl}
	if maxTTL > 0 {
		lease.MaxTtl = r.MaxTtl
	}
	return &conclavev1.GrantLeaseResponse{Lease: lease}, nil
}

// tallyOf is what a lease counts for.
func (t *tx) tallyOf(id string) (fsm.Key, error) {
	table, err := t.mounts()
	if err != nil {
		return nil, err
	}
	if m, _ := table.find(id); m != nil {
		return leaseTally(m.ID), nil
	}
	return leaseTally(""), nil
}

func (t *tx) sealLease(key fsm.Key, data *storev1.LeaseData) ([]byte, error) {
	raw, err := proto.Marshal(data)
	if err != nil {
		return nil, &engine.InvalidError{Why: "the data of the lease cannot be encoded"}
	}
	if len(raw) > maxLeaseBytes {
		return nil, &engine.TooLargeError{What: "lease", Bytes: len(raw), Limit: maxLeaseBytes}
	}
	return t.barrier.Seal(seal.TableLease, key, 0, raw)
}

// Renew extends a lease from now, within its maximum.
func (s *Leases) Renew(ctx context.Context, c Caller, r *conclavev1.RenewLeaseRequest) (*conclavev1.RenewLeaseResponse, error) {
	return call(ctx, s.pipeline, c, method[*conclavev1.RenewLeaseRequest, *conclavev1.RenewLeaseResponse]{
		name: conclavev1.Leases_Renew_FullMethodName, writes: true, capability: policy.CapabilityUpdate,
		path:   func(r *conclavev1.RenewLeaseRequest) string { return "sys/leases/renew/" + r.Id },
		handle: (*tx).RenewLease,
		finish: func(resp *conclavev1.RenewLeaseResponse, done engine.Commit) {
			resp.Index = done.Index
			extend(resp.Lease, done.Time)
		},
	}, r)
}

// RenewLease stages a renewal and describes the lease, but for its expiry.
func (t *tx) RenewLease(r *conclavev1.RenewLeaseRequest) (*conclavev1.RenewLeaseResponse, error) {
	if r.Ttl.AsDuration() < 0 || r.Ttl.AsDuration() > fsm.MaxTTL {
		return nil, &engine.InvalidError{Why: "the ttl of a renewal must lie between 0 and 100 years"}
	}
	key, l, err := t.usableLease(r.Id)
	if err != nil {
		return nil, err
	}
	if l.State != fsm.LeaseActive {
		return nil, refuse(conclavev1.Reason_REASON_LEASE_EXPIRED, "the lease is "+l.State.String()+" and cannot be renewed", "grant a new one")
	}
	if l.Effect != nil {
		if err := t.renewEffect(key, l, r.Ttl.AsDuration()); err != nil {
			return nil, err
		}
	}
	t.guard(fsm.Guard{Kind: fsm.GuardLease, Key: key, Number: l.Generation, State: l.State})
	t.stage(fsm.Operation{Kind: fsm.OpRenewLease, Key: key, TTL: r.Ttl.AsDuration()})
	out := describe(r.Id, l)
	out.Generation++
	if ttl := r.Ttl.AsDuration(); ttl > 0 {
		out.Ttl = durationpb.New(ttl)
	}
	return &conclavev1.RenewLeaseResponse{Lease: out}, t.open(key, l, out)
}

// renewEffect has the effect of a lease last as long as the lease will: before the
// renewal commits, so that no credential ends before its lease. If it does not commit,
// the effect ends with the lease all the same.
func (t *tx) renewEffect(key fsm.Key, l *fsm.Lease, ttl time.Duration) error {
	data, err := t.leaseData(key, l)
	if err != nil {
		return err
	}
	if data.Fixed {
		return &engine.InvalidError{Why: "lease is not renewable"}
	}
	backend, call, err := t.effects(context.Background(), data.Mount)
	if err != nil {
		return err
	}
	until := t.Now().Add(cmp.Or(ttl, l.TTL))
	if limit := l.MaxExpires.Time(); l.MaxExpires != 0 && until.After(limit) {
		until = limit
	}
	act, err := backend.Renew(call, data.Undo, until)
	if err == nil && act != nil {
		t.first = append(t.first, act)
	}
	return err
}

// settleLease dates a lease that was granted at now.
func settleLease(l *conclavev1.Lease, now time.Time) {
	l.IssuedAt = timestamppb.New(now)
	if l.MaxTtl != nil {
		l.MaxExpiresAt = timestamppb.New(now.Add(l.MaxTtl.AsDuration()))
	}
	extend(l, now)
}

// extend sets the expiry of a lease that was granted or renewed at now, as the
// state machine does.
func extend(l *conclavev1.Lease, now time.Time) {
	at := now.Add(l.Ttl.AsDuration())
	if limit := l.MaxExpiresAt; limit != nil && at.After(limit.AsTime()) {
		at = limit.AsTime()
	}
	l.ExpiresAt = timestamppb.New(at)
}

// Revoke ends a lease and what it owns, or every lease below a prefix.
func (s *Leases) Revoke(ctx context.Context, c Caller, r *conclavev1.RevokeLeaseRequest) (*conclavev1.RevokeLeaseResponse, error) {
	return call(ctx, s.pipeline, c, method[*conclavev1.RevokeLeaseRequest, *conclavev1.RevokeLeaseResponse]{
		name: conclavev1.Leases_Revoke_FullMethodName, writes: true, capability: policy.CapabilityUpdate, sudo: r.Prefix,
		path: func(r *conclavev1.RevokeLeaseRequest) string {
			if r.Prefix {
				return "sys/leases/revoke-prefix/" + r.Id
			}
			return "sys/leases/revoke/" + r.Id
		},
		handle: (*tx).RevokeLease,
		finish: func(resp *conclavev1.RevokeLeaseResponse, done engine.Commit) { resp.Index = done.Index },
	}, r)
}

// RevokeLease stages the end of a lease, or of all below a prefix.
func (t *tx) RevokeLease(r *conclavev1.RevokeLeaseRequest) (*conclavev1.RevokeLeaseResponse, error) {
	op := fsm.Operation{Kind: fsm.OpRevokeLease}
	var err error
	if r.Prefix {
		var p engine.Path
		if p, err = engine.ParsePath(strings.TrimSuffix(r.Id, "/"), 0); err == nil {
			op.Kind = fsm.OpRevokePrefix
			op.Key, err = t.barrier.BlindPrefix(spaceLease, p)
		}
	} else {
		op.Key, _, err = t.usableLease(r.Id)
	}
	if err != nil {
		return nil, err
	}
	t.stage(op)
	return &conclavev1.RevokeLeaseResponse{}, nil
}

// Lookup describes a lease.
func (s *Leases) Lookup(ctx context.Context, c Caller, r *conclavev1.LookupLeaseRequest) (*conclavev1.LookupLeaseResponse, error) {
	return call(ctx, s.pipeline, c, method[*conclavev1.LookupLeaseRequest, *conclavev1.LookupLeaseResponse]{
		name: conclavev1.Leases_Lookup_FullMethodName, capability: policy.CapabilityUpdate,
		path:   func(r *conclavev1.LookupLeaseRequest) string { return "sys/leases/lookup/" + r.Id },
		handle: (*tx).LookupLease,
		finish: func(resp *conclavev1.LookupLeaseResponse, done engine.Commit) { resp.Index = done.Index },
	}, r)
}

// LookupLease describes a lease.
func (t *tx) LookupLease(r *conclavev1.LookupLeaseRequest) (*conclavev1.LookupLeaseResponse, error) {
	key, l, err := t.usableLease(r.Id)
	if err != nil {
		return nil, err
	}
	out := describe(r.Id, l)
	return &conclavev1.LookupLeaseResponse{Lease: out}, t.open(key, l, out)
}

// List lists the leases below a prefix, without their data.
func (s *Leases) List(ctx context.Context, c Caller, r *conclavev1.ListLeasesRequest) (*conclavev1.ListLeasesResponse, error) {
	return call(ctx, s.pipeline, c, method[*conclavev1.ListLeasesRequest, *conclavev1.ListLeasesResponse]{
		name: conclavev1.Leases_List_FullMethodName, capability: policy.CapabilityList, sudo: true,
		path:   func(r *conclavev1.ListLeasesRequest) string { return "sys/leases/lookup/" + r.Prefix },
		handle: (*tx).ListLeases,
		finish: func(resp *conclavev1.ListLeasesResponse, done engine.Commit) { resp.Index = done.Index },
	}, r)
}

// ListLeases lists leases without their data.
func (t *tx) ListLeases(r *conclavev1.ListLeasesRequest) (*conclavev1.ListLeasesResponse, error) {
	dir, err := engine.ParseDirectory(r.Prefix, 0)
	if err != nil {
		return nil, err
	}
	prefix, err := t.barrier.BlindPrefix(spaceLease, dir)
	if err != nil {
		return nil, err
	}
	limit := int(min(r.Limit, maxLeaseListed))
	if limit == 0 {
		limit = maxLeaseListed
	}
	switch {
	case (r.Unsorted || r.ExpiringWithin != nil) && r.After != "":
		return nil, &engine.InvalidError{Why: "these pages go on from a cursor, not after an id"}
	case r.ExpiringWithin != nil:
		keys, err := t.view.Expiring(t.view.Time().Add(max(r.ExpiringWithin.AsDuration(), 0)))
		if err != nil {
			return nil, err
		}
		return t.leasePage(keys, r.Cursor, limit, func(k fsm.Key) (fsm.Key, bool) {
			id, ok := fsm.SplitExpiring(k)
			return id, ok && bytes.HasPrefix(id, prefix)
		})
	case r.Unsorted:
		if len(r.Cursor) > 0 && !bytes.HasPrefix(r.Cursor, prefix) {
			return nil, &engine.InvalidError{Why: "the cursor is not one of this listing"}
		}
		keys, err := t.view.Keys(fsm.Leases, prefix)
		if err != nil {
			return nil, err
		}
		return t.leasePage(keys, r.Cursor, limit, func(k fsm.Key) (fsm.Key, bool) { return k, true })
	}
	return t.leasesByID(prefix, r.After, limit)
}

// leasesByID looks at every lease below prefix: the order of ids is not that of the
// store, whose keys hide them.
func (t *tx) leasesByID(prefix fsm.Key, after string, limit int) (*conclavev1.ListLeasesResponse, error) {
	keys, err := t.view.Keys(fsm.Leases, prefix)
	if err != nil {
		return nil, err
	}
	found := newPage(after, limit, (*conclavev1.Lease).GetId)
	for keys.Next() {
		l, err := t.listed(keys.Key())
		if err != nil {
			return nil, firstError(err, keys.Close())
		}
		if l != nil {
			found.add(l)
		}
	}
	if err := keys.Close(); err != nil {
		return nil, err
	}
	resp := &conclavev1.ListLeasesResponse{}
	resp.Leases, resp.More = found.done()
	return resp, nil
}

// maxLeaseWalked bounds the rows that one page may cost: it is then short, or empty.
const maxLeaseWalked = 20_000

// leasePage reads on from a cursor, in the order of keys, which it closes. id tells
// which lease a key is about, and whether it belongs to the listing.
func (t *tx) leasePage(keys *fsm.Keys, cursor fsm.Key, limit int, id func(fsm.Key) (fsm.Key, bool)) (*conclavev1.ListLeasesResponse, error) {
	resp := &conclavev1.ListLeasesResponse{}
	there := false
	if len(cursor) > 0 {
		there = keys.Seek(append(bytes.Clone(cursor), 0))
	} else {
		there = keys.Next()
	}
	for walked := 0; there; there = keys.Next() {
		if walked++; walked > maxLeaseWalked || len(resp.Leases) == limit {
			resp.More, resp.Cursor = true, cursor
			break
		}
		cursor = keys.Key()
		key, ok := id(cursor)
		if !ok {
			continue
		}
		l, err := t.listed(key)
		if err != nil {
			return nil, firstError(err, keys.Close())
		}
		if l != nil {
			resp.Leases = append(resp.Leases, l)
		}
	}
	return resp, keys.Close()
}

// listed describes the lease at key, or nothing if it has ended.
func (t *tx) listed(key fsm.Key) (*conclavev1.Lease, error) {
	l, usable, err := t.view.Lease(key)
	if err != nil || l == nil || (!usable && l.State != fsm.LeaseRevoking) {
		return nil, err
	}
	segments, err := t.barrier.Unblind(spaceLease, key)
	if err != nil {
		return nil, err
	}
	return describe(engine.Path(segments).String(), l), nil
}
