package sim

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	"github.com/conclave-secrets/conclave/jepsen/workload"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// spaceBank holds the accounts, which are nothing that a seal must cover.
const spaceBank fsm.Space = 0x7d

// transferTries is how often a transfer is tried again whose guards have failed.
const transferTries = 4

// callBank sends o to the ledger of p, as core would.
func (c *courier) callBank(ctx context.Context, p *testcluster.Process, o *history.Op, a *workload.Answer) error {
	for range transferTries {
		books, err := readBooks(ctx, p.Ledger, o.Key)
		if err != nil {
			return failedBank(err)
		}
		if o.Kind == history.Balances {
			a.Index, a.Read = books.index, books.holds.String()
			return nil
		}
		batch, err := books.move(o)
		if err != nil {
			return err
		}
		result, err := p.Ledger.Propose(ctx, batch)
		if err != nil {
			return failedBank(err)
		}
		if result.Code == fsm.Applied {
			a.Index = result.Index
			return nil
		}
	}
	return &workload.Failure{Reason: conclavev1.Reason_REASON_CONFLICT, Cause: errors.New("the accounts moved each time")}
}

// failedBank says what an error of the ledger means for a transfer.
func failedBank(err error) error {
	if errors.Is(err, fsm.ErrUnknown) {
		return &workload.Failure{Reason: conclavev1.Reason_REASON_UNKNOWN_OUTCOME, Unknown: true, Cause: err}
	}
	return &workload.Failure{Reason: conclavev1.Reason_REASON_NO_LEADER, Cause: err}
}

// books are the accounts of one bank at an index.
type books struct {
	index    uint64
	holds    model.Bank
	keys     [model.Accounts]fsm.Key
	revision [model.Accounts]fsm.Revision
}

// readBooks reads a bank, as linearizable reads do.
func readBooks(ctx context.Context, l core.Ledger, bank string) (b *books, err error) {
	index, err := l.ReadIndex(ctx)
	if err == nil {
		err = l.WaitApplied(ctx, index)
	}
	if err != nil {
		return nil, err
	}
	view, err := l.View()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	b = &books{index: view.Index(), holds: model.NewBank()}
	for i := range b.keys {
		b.keys[i] = fmt.Appendf(fsm.Key{byte(spaceBank)}, "%s/%d", bank, i)
		r, err := view.Record(b.keys[i])
		if err != nil {
			return nil, err
		}
		if r == nil {
			continue
		}
		if b.holds[i], err = strconv.Atoi(string(r.Value)); err != nil {
			return nil, fmt.Errorf("reading account %d of %s: %w", i, bank, err)
		}
		b.revision[i] = r.Revision
	}
	return b, nil
}

// move is the batch of a transfer.
func (b *books) move(o *history.Op) (*fsm.Batch, error) {
	order, err := model.ParseOrder(o.Value)
	if err != nil {
		return nil, err
	}
	after, enough := b.holds.After(order)
	if !enough {
		return nil, &workload.Failure{Reason: conclavev1.Reason_REASON_CAS_MISMATCH, Cause: fmt.Errorf("account %d holds %d", order.From, b.holds[order.From])}
	}
	batch := &fsm.Batch{}
	for _, i := range []int{order.From, order.To} {
		batch.Guards = append(batch.Guards, fsm.Guard{Kind: fsm.GuardRecord, Key: b.keys[i], Revision: b.revision[i]})
		batch.Operations = append(batch.Operations, fsm.Operation{Kind: fsm.OpPutRecord, Key: b.keys[i], Value: strconv.AppendInt(nil, int64(after[i]), 10)})
	}
	return batch, nil
}
