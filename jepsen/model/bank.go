package model

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// A bank has Accounts accounts, each of which begins with Opening.
const (
	Accounts = 4
	Opening  = 10
)

// Bank is what the accounts of a bank hold.
type Bank [Accounts]int

// NewBank returns a bank in which nothing was moved yet.
func NewBank() Bank {
	var b Bank
	for i := range b {
		b[i] = Opening
	}
	return b
}

// String is what a history.Balances reads.
func (b Bank) String() string { return strings.Trim(fmt.Sprint([Accounts]int(b)), "[]") }

// An Order is what a history.Transfer asks for: to move an amount if it is there.
type Order struct{ From, To, Amount int }

// String is the value of a history.Transfer.
func (o Order) String() string { return fmt.Sprintf("%d from %d to %d", o.Amount, o.From, o.To) }

// ParseOrder reads the value of a history.Transfer.
func ParseOrder(text string) (o Order, err error) {
	if _, err = fmt.Sscanf(text, "%d from %d to %d", &o.Amount, &o.From, &o.To); err != nil {
		return o, fmt.Errorf("reading the order %q: %w", text, err)
	}
	if o.From < 0 || o.From >= Accounts || o.To < 0 || o.To >= Accounts || o.From == o.To || o.Amount <= 0 {
		return o, fmt.Errorf("reading the order %q: no such transfer", text)
	}
	return o, nil
}

// After returns the bank after o, and false when there is too little for it.
func (b Bank) After(o Order) (Bank, bool) {
	if b[o.From] < o.Amount {
		return b, false
	}
	b[o.From], b[o.To] = b[o.From]-o.Amount, b[o.To]+o.Amount
	return b, true
}

func (b Bank) step(op *history.Op) (bool, Bank) {
	if op.Kind == history.Balances {
		return op.Read == b.String(), b
	}
	order, err := ParseOrder(op.Value)
	if op.Kind != history.Transfer || err != nil {
		return false, b
	}
	next, enough := b.After(order)
	return op.Outcome == history.Unknown || enough == (op.Outcome == history.Done), next
}

// Banks returns the model of accounts between which money moves, two of them at a
// time and all of it or nothing. Its ops are those of one bank.
func Banks() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return NewBank() },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := state.(Bank).step(input.(*history.Op))
			return ok, next
		},
		DescribeOperation: func(input, _ any) string { return input.(*history.Op).String() },
		DescribeState:     func(state any) string { return state.(Bank).String() },
	}
}
