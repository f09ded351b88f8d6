package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/seal"
)

// What is planted between the request path and the ledger. The spaces are those of
// core/doc.go.
const (
	spaceSecret   fsm.Space = 0x10
	spaceLease    fsm.Space = 0x11
	spaceToken    fsm.Space = 0x12
	spaceReceipt  fsm.Space = 0x13
	spacePolicy   fsm.Space = 0x17
	spaceWrapping fsm.Space = 0x1a
	spaceNobodys  fsm.Space = 0x7e
)

// onLedger plants what wrap returns.
func onLedger(wrap func(core.Ledger) core.Ledger) func(*Options) {
	return func(o *Options) {
		o.seams.Ledger = func(_ *testcluster.Process, l core.Ledger) core.Ledger { return wrap(l) }
	}
}

// onBatches changes every batch that is proposed. change owns the two slices of the
// batch, not what they point to.
func onBatches(change func(*fsm.Batch)) func(*Options) {
	return onLedger(func(l core.Ledger) core.Ledger { return changedBatches{l, change} })
}

type changedBatches struct {
	core.Ledger
	change func(*fsm.Batch)
}

func (l changedBatches) Propose(ctx context.Context, b *fsm.Batch) (fsm.Result, error) {
	c := *b
	c.Guards, c.Operations = slices.Clone(b.Guards), slices.Clone(b.Operations)
	l.change(&c)
	if len(c.Operations) == 0 { // a batch must do something
		c.Operations = []fsm.Operation{{Kind: fsm.OpDeleteRecord, Key: fsm.Key{byte(spaceNobodys)}}}
	}
	return l.Ledger.Propose(ctx, &c)
}

// withoutGuards drops the guards of one kind.
func withoutGuards(kind fsm.GuardKind) func(*Options) {
	return onBatches(func(b *fsm.Batch) {
		b.Guards = slices.DeleteFunc(b.Guards, func(g fsm.Guard) bool { return g.Kind == kind })
	})
}

// without drops the operations for which drop is true.
func without(drop func(*fsm.Operation) bool) func(*Options) {
	return onBatches(func(b *fsm.Batch) {
		b.Operations = slices.DeleteFunc(b.Operations, func(o fsm.Operation) bool { return drop(&o) })
	})
}

func inSpace(k fsm.Key, s fsm.Space) bool { return len(k) > 0 && k[0] == byte(s) }

func isKind(kind fsm.OperationKind) func(*fsm.Operation) bool {
	return func(o *fsm.Operation) bool { return o.Kind == kind }
}

// halve does the first operation of a transfer only.
func halve(b *fsm.Batch) {
	if len(b.Operations) == 2 && inSpace(b.Operations[1].Key, spaceBank) {
		b.Operations = b.Operations[:1]
	}
}

// freeUses forgets that a token was used: its record is rewritten where no token is made.
func freeUses(b *fsm.Batch) {
	if slices.ContainsFunc(b.Operations, func(o fsm.Operation) bool { return o.Kind == fsm.OpGrantLease && inSpace(o.Key, spaceToken) }) {
		return
	}
	b.Operations = slices.DeleteFunc(b.Operations, func(o fsm.Operation) bool {
		return inSpace(o.Key, spaceToken) && (o.Kind == fsm.OpPutRecord || o.Kind == fsm.OpRevokeLease)
	})
}

// orphans has tokens made without the tie to their parents.
func orphans(b *fsm.Batch) {
	for i := range b.Operations {
		if o := &b.Operations[i]; o.Kind == fsm.OpGrantLease && inSpace(o.Key, spaceToken) {
			o.Lease = nil
		}
	}
}

// shorter has leases granted and renewed for less than was asked.
func shorter(b *fsm.Batch) {
	for i := range b.Operations {
		if o := &b.Operations[i]; (o.Kind == fsm.OpGrantLease || o.Kind == fsm.OpRenewLease) && o.TTL > 0 && inSpace(o.Key, spaceLease) {
			o.TTL = max(1, o.TTL-100*time.Millisecond)
		}
	}
}

// longer has leases renewed for more than was asked.
func longer(b *fsm.Batch) {
	for i := range b.Operations {
		if o := &b.Operations[i]; o.Kind == fsm.OpGrantLease && inSpace(o.Key, spaceLease) {
			o.TTL += 100 * time.Millisecond
		}
	}
}

// localReads takes what this node has applied for what is current.
type localReads struct{ core.Ledger }

func (l localReads) ReadIndex(context.Context) (uint64, error) {
	v, err := l.View()
	if err != nil {
		return 0, err
	}
	return v.Index(), v.Close()
}

// leaderReads takes what a node that believes it leads has applied for what is current.
type leaderReads struct{ core.Ledger }

func (l leaderReads) ReadIndex(ctx context.Context) (uint64, error) {
	if node, ok := l.Ledger.(interface{ IsLeader() bool }); ok && node.IsLeader() {
		return localReads(l).ReadIndex(ctx)
	}
	return l.Ledger.ReadIndex(ctx)
}

// forgetfulWaits reads without waiting until the node has caught up. To ask for a
// read index is to wait, too, so it stands in front of localReads.
type forgetfulWaits struct{ core.Ledger }

func (l forgetfulWaits) WaitApplied(context.Context, uint64) error { return nil }

// proposals changes what a proposal comes to.
type proposals struct {
	core.Ledger
	propose func(context.Context, core.Ledger, *fsm.Batch) (fsm.Result, error)
}

func (l proposals) Propose(ctx context.Context, b *fsm.Batch) (fsm.Result, error) {
	return l.propose(ctx, l.Ledger, b)
}

func onProposals(f func(context.Context, core.Ledger, *fsm.Batch) (fsm.Result, error)) func(*Options) {
	return onLedger(func(l core.Ledger) core.Ledger { return proposals{l, f} })
}

// hopeful reports an unknown outcome as done.
func hopeful(ctx context.Context, l core.Ledger, b *fsm.Batch) (fsm.Result, error) {
	r, err := l.Propose(ctx, b)
	if errors.Is(err, fsm.ErrUnknown) {
		return fsm.Result{Code: fsm.Applied}, nil
	}
	return r, err
}

// gloomy reports an unknown outcome as not done.
func gloomy(ctx context.Context, l core.Ledger, b *fsm.Batch) (fsm.Result, error) {
	r, err := l.Propose(ctx, b)
	if errors.Is(err, fsm.ErrUnknown) {
		return r, fmt.Errorf("given up: %w", fsm.ErrNotDone)
	}
	return r, err
}

// hasty acknowledges what it has only begun to propose.
func hasty(_ context.Context, l core.Ledger, b *fsm.Batch) (fsm.Result, error) {
	v, err := l.View()
	if err != nil {
		return fsm.Result{}, err
	}
	early := fsm.Result{Code: fsm.Applied, Index: v.Index() + 1, Time: v.Time()}
	if err := v.Close(); err != nil {
		return fsm.Result{}, err
	}
	c := *b
	c.Guards, c.Operations = slices.Clone(b.Guards), slices.Clone(b.Operations)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, _ = l.Propose(ctx, &c) // nobody hears of it: that is the fault
	}()
	return early, nil
}

// twice proposes what was done once more, as another batch.
func twice(ctx context.Context, l core.Ledger, b *fsm.Batch) (fsm.Result, error) {
	c := *b
	c.Guards = nil
	c.Operations = slices.Clone(b.Operations)
	for i := range c.Operations { // as a retry would that reads the number anew
		if c.Operations[i].Kind == fsm.OpAppendVersion {
			c.Operations[i].Number++
		}
	}
	r, err := l.Propose(ctx, b)
	if err != nil || r.Code != fsm.Applied || !slices.ContainsFunc(b.Operations, func(o fsm.Operation) bool { return o.Kind == fsm.OpRenewLease }) {
		return r, err
	}
	return l.Propose(ctx, &c)
}

// elsewhere names another index than that of the write.
func elsewhere(ctx context.Context, l core.Ledger, b *fsm.Batch) (fsm.Result, error) {
	r, err := l.Propose(ctx, b)
	if err == nil && r.Index > 3 {
		r.Index -= 3
	}
	return r, err
}

// loseSome acknowledges one in fifty batches that it never proposed.
func loseSome() func(*Options) {
	return func(o *Options) {
		n := 0
		o.seams.Ledger = func(_ *testcluster.Process, l core.Ledger) core.Ledger {
			return proposals{l, func(ctx context.Context, l core.Ledger, b *fsm.Batch) (fsm.Result, error) {
				if n++; n%50 != 0 {
					return l.Propose(ctx, b)
				}
				return l.Propose(ctx, &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpDeleteRecord, Key: fsm.Key{byte(spaceNobodys)}}}})
			}}
		}
	}
}

// outspoken writes values in clear beside the sealed ones.
func outspoken(o *Options) {
	o.seams.Ledger = func(p *testcluster.Process, l core.Ledger) core.Ledger {
		return changedBatches{l, func(b *fsm.Batch) {
			barrier, err := p.Gate.Barrier()
			if err != nil {
				return // sealed: there is nothing to tell
			}
			for _, op := range b.Operations {
				if op.Kind != fsm.OpAppendVersion {
					continue
				}
				value, err := barrier.Open(seal.TableVersion, op.Key, op.Number, op.Value)
				if err == nil {
					b.Operations = append(b.Operations, fsm.Operation{Kind: fsm.OpPutRecord, Key: fsm.Key{byte(spaceNobodys)}, Value: bytes.Clone(value)})
				}
			}
		}}
	}
}
