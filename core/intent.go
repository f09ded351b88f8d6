package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// Effects on outside systems: the steps of engine.Intent. The first is part of the
// request's own batch; the others are here. Undoing is in undo.go.
//
// Invariant: an effect may exist outside only while a lease names it. The lease is
// committed before Act begins, and goes only after Undo has succeeded.

// settleTime is what an intent gets beyond its own bound, for the commit that
// confirms it. It is log time, which never runs ahead of a leader's clock.
const settleTime = 15 * time.Second

// maxUndo bounds what a lease keeps for undoing, in bytes.
const maxUndo = 32 << 10

// intent is an effect on its way, once its lease is staged.
type intent struct {
	engine.Intent
	key fsm.Key // of the lease
}

// systemKey names an outside system of a mount in the ledger.
func systemKey(mountID, system string) fsm.Key {
	return append(mountEffects(mountID), mountDigest(system)...)
}

// Leaseless implements engine.Host.
func (t *tx) Leaseless() (bool, error) {
	n, err := t.view.Tally(leaseTally(t.mount))
	if err != nil || n > 0 {
		return false, err
	}
	waiting, err := t.view.Keys(fsm.Effects, mountEffects(t.mount))
	if err != nil {
		return false, err
	}
	some := waiting.Next()
	return !some, waiting.Close()
}

// intend stages the lease of an intent, as pending.
func (t *tx) intend(m *mount, path string, i *engine.Intent) (*intent, string, error) {
	if i.Act == nil || i.System == "" || i.Within <= 0 || len(i.Undo) > maxUndo {
		return nil, "", fmt.Errorf("an intent of a mount of type %s is not whole", m.Type)
	}
	i.MaxTTL = shorter(i.MaxTTL, m.MaxTTL)
	i.TTL = shorter(i.TTL, i.MaxTTL)
	id, err := newLeaseID(t.rand, path)
	if err != nil {
		return nil, "", err
	}
	key, err := t.leaseKey(id)
	if err != nil {
		return nil, "", err
	}
	op := fsm.Operation{Kind: fsm.OpGrantLease, Key: key, TTL: i.Within + settleTime, MaxTTL: i.MaxTTL + i.Within + settleTime,
		State: fsm.LeasePending, Effect: systemKey(m.ID, i.System), Tally: leaseTally(m.ID), Groups: []fsm.Key{mountGroup(m.ID)}}
	if t.who != nil {
		op.Lease = t.who.lease
	}
	if op.Value, err = t.sealLease(key, &storev1.LeaseData{Id: id, Mount: m.ID, Undo: i.Undo, Fixed: !i.Renewable}); err != nil {
		return nil, "", err
	}
	t.stage(op)
	return &intent{*i, key}, id, nil
}

// shorter is the shorter of two times, of which 0 is no limit.
func shorter(a, b time.Duration) time.Duration {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

// newLeaseID draws the id of a lease below a prefix.
func newLeaseID(random io.Reader, prefix string) (string, error) {
	p, err := engine.ParsePath(strings.TrimSuffix(prefix, "/"), 0)
	if err != nil {
		return "", err
	}
	raw := make([]byte, 15)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", fmt.Errorf("drawing a lease id: %w", err)
	}
	return p.String() + "/" + strings.ToLower(tokenLetters.EncodeToString(raw)), nil
}

// realise carries out an intent whose lease is committed. After an error the effect
// is being undone, and the caller has got nothing.
func (p *Pipeline) realise(ctx context.Context, i *intent) error {
	acting, cancel := context.WithTimeout(ctx, i.Within)
	err := i.Act(acting)
	cancel()
	if err == nil {
		err = p.confirmIntent(ctx, i)
	}
	if err != nil {
		p.abandon(ctx, i)
	}
	return err
}

// confirmIntent makes the lease active.
func (p *Pipeline) confirmIntent(ctx context.Context, i *intent) error {
	result, err := p.ledger.Propose(ctx, &fsm.Batch{
		Guards:     []fsm.Guard{{Kind: fsm.GuardLease, Key: i.key, Number: 1, State: fsm.LeasePending}},
		Operations: []fsm.Operation{{Kind: fsm.OpConfirmLease, Key: i.key, TTL: i.TTL}},
	})
	switch {
	case err != nil:
		return err
	case result.Code == fsm.Applied:
		return nil
	}
	return refuse(conclavev1.Reason_REASON_CONFLICT, "the credential was made and taken back: its token was revoked, its mount disabled, or it took too long", "ask again")
}

// abandonTime bounds how long a request that failed waits for its lease to be ended.
// What is not ended then ends by its deadline.
const abandonTime = 5 * time.Second

// abandon has the effect of an intent undone now, also when the caller has gone.
func (p *Pipeline) abandon(ctx context.Context, i *intent) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTime)
	defer cancel()
	// Whatever comes of it: the deadline of the intent does the same.
	_, _ = p.ledger.Propose(ctx, &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpRevokeLease, Key: i.key}}})
}

// leaseData opens the payload of a lease.
func (t *tx) leaseData(key fsm.Key, l *fsm.Lease) (*storev1.LeaseData, error) {
	raw, err := t.openSealed(seal.TableLease, key, 0, l.Value)
	if err != nil {
		return nil, err
	}
	data := &storev1.LeaseData{}
	if err := proto.Unmarshal(raw, data); err != nil {
		return nil, fmt.Errorf("reading a lease: %w", err)
	}
	return data, nil
}

// errNoUndo: this release does not know how to undo what a lease did.
var errNoUndo = errors.New("nothing in this release undoes effects of that mount")

// effects returns what undoes and renews the effects of a mount, and a call on it.
func (t *tx) effects(ctx context.Context, mountID string) (engine.Effects, *engine.Call, error) {
	table, err := t.mounts()
	if err != nil {
		return nil, nil, err
	}
	m := table.byID[mountID]
	if m == nil {
		return nil, nil, errNoUndo
	}
	backend, ok := t.cache.backend(m.Path, m.Type).(engine.Effects)
	if !ok {
		return nil, nil, errNoUndo
	}
	t.on(m.ID)
	return backend, &engine.Call{Tx: t, Context: ctx, Mount: m.Mount, Rand: t.rand, Path: m.Path}, nil
}
