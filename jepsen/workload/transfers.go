package workload

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
)

// Money moves between the accounts of a bank: a batch with guards on two records, and
// operations on both. The API has no such batch; the simulation sends it to the ledger
// itself, on which everything rests that must change together: a secret and its lease,
// a token and its use.

const (
	transfersEach = requestsEach
	bankPrefix    = "bank-"
)

func bankName(age int64) string { return fmt.Sprintf("%s%d", bankPrefix, age) }

// banksSoFar are requests for the balances of every bank.
func (w *World) banksSoFar() (asked []*history.Op) {
	sum := w.transfers.Load()
	for age := range (sum + transfersEach) / transfersEach {
		if sum > 0 {
			asked = append(asked, &history.Op{Kind: history.Balances, Key: bankName(age)})
		}
	}
	return asked
}

func (c *Client) pickTransfers() *history.Op {
	o := &history.Op{Kind: history.Balances, Key: bankName(c.world.transfers.Add(1) / transfersEach)}
	if c.rng.IntN(3) > 0 {
		from := c.rng.IntN(model.Accounts)
		o.Kind = history.Transfer
		o.Value = model.Order{From: from, To: (from + 1 + c.rng.IntN(model.Accounts-1)) % model.Accounts, Amount: 1 + c.rng.IntN(model.Opening)}.String()
	}
	return o
}

// judgeBanks checks that no money is made or lost on any read; and, where the outcome
// of every transfer is known, that a read shows exactly those up to its index.
func judgeBanks(ops []*history.Op) (found []string) {
	moves := map[string][]*history.Op{}
	doubtful := map[string]bool{}
	for _, o := range ops {
		if o.Kind == history.Transfer && o.Outcome == history.Done {
			moves[o.Key] = append(moves[o.Key], o)
		}
		doubtful[o.Key] = doubtful[o.Key] || o.Kind == history.Transfer && o.Outcome == history.Unknown
	}
	for _, all := range moves {
		slices.SortStableFunc(all, func(a, b *history.Op) int { return cmp.Compare(a.Index, b.Index) })
	}
	for _, o := range ops {
		if o.Kind != history.Balances || o.Outcome != history.Done {
			continue
		}
		if !whole(o.Read) {
			found = append(found, fmt.Sprintf("money was made or lost: %v", o))
		} else if want := balancesAt(moves[o.Key], o.Index); !doubtful[o.Key] && o.Read != want {
			found = append(found, fmt.Sprintf("not the balances at its index, which are %s: %v", want, o))
		}
	}
	return found
}

// whole tells whether balances sum up to what a bank began with.
func whole(balances string) bool {
	var b model.Bank
	into := make([]any, len(b))
	for i := range b {
		into[i] = &b[i]
	}
	if _, err := fmt.Sscan(balances, into...); err != nil {
		return false
	}
	sum := 0
	for _, n := range b {
		if n < 0 {
			return false
		}
		sum += n
	}
	return sum == model.Accounts*model.Opening
}

// balancesAt are those after the transfers up to an index.
func balancesAt(moves []*history.Op, index uint64) string {
	b := model.NewBank()
	for _, m := range moves {
		if m.Index > index {
			break
		}
		if order, err := model.ParseOrder(m.Value); err == nil {
			b, _ = b.After(order) // whether there was enough is the other oracle's question
		}
	}
	return b.String()
}
