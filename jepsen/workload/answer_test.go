package workload

import (
	"errors"
	"testing"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Every reason that the API knows has a meaning, and every meaning a reason: a new
// reason needs a decision here.
func TestEveryReasonHasAMeaning(t *testing.T) {
	for number, name := range conclavev1.Reason_name {
		if meanings[conclavev1.Reason(number)] == 0 {
			t.Errorf("%s means nothing", name)
		}
	}
	for reason := range meanings {
		if _, known := conclavev1.Reason_name[int32(reason)]; !known {
			t.Errorf("the API has no reason %d", reason)
		}
	}
}

// What a client is told becomes what the history says: a refusal after an attempt
// whose end nobody knows is none, and what no request can be told is a finding.
func TestConclude(t *testing.T) {
	const (
		mismatch = conclavev1.Reason_REASON_CAS_MISMATCH
		sealed   = conclavev1.Reason_REASON_SEALED
		lost     = conclavev1.Reason_REASON_UNKNOWN_OUTCOME
		denied   = conclavev1.Reason_REASON_DENIED
		internal = conclavev1.Reason_REASON_INTERNAL
		silence  = conclavev1.Reason_REASON_UNSPECIFIED
	)
	for _, c := range []struct {
		kind   history.Kind
		told   error
		want   history.Outcome
		reason conclavev1.Reason
		number uint64
		wrong  bool
	}{
		{history.Put, nil, history.Done, silence, 0, false},
		{history.Put, &Failure{Reason: mismatch, Current: 3}, history.Refused, mismatch, 3, false},
		{history.Put, &Failure{Reason: mismatch, Current: 3, Unknown: true}, history.Unknown, mismatch, 0, false},
		{history.Put, &Failure{Reason: sealed}, history.NotDone, sealed, 0, false},
		{history.Put, &Failure{Reason: lost, Unknown: true}, history.Unknown, lost, 0, false},
		{history.Put, &Failure{Unknown: true}, history.Unknown, silence, 0, false},
		{history.Get, &Failure{Unknown: true}, history.NotDone, silence, 0, false},
		{history.Put, &Failure{Reason: denied}, history.Refused, denied, 0, true},
		{model.UseToken, &Failure{Reason: denied}, history.Refused, denied, 0, false},
		{history.Get, &Failure{Reason: internal}, history.NotDone, internal, 0, true},
		{history.Put, &Failure{Reason: internal, Unknown: true}, history.Unknown, internal, 0, true},
		{history.Put, &Failure{Reason: internal, Unknown: true, Excused: true}, history.Unknown, internal, 0, false},
		{history.Put, &Failure{Reason: 9999}, history.NotDone, 9999, 0, true},
		{history.Put, errors.New("whatever"), history.Unknown, silence, 0, true},
		{history.Get, errors.New("whatever"), history.NotDone, silence, 0, true},
	} {
		a := &Answer{}
		err := a.Conclude(&history.Op{Kind: c.kind}, c.told)
		if (err != nil) != c.wrong || a.Outcome != c.want || a.Reason != c.reason || a.Number != c.number {
			t.Errorf("%s told %v: %+v, %v", c.kind, c.told, a, err)
		}
	}
}

// Of two attempts the one that says most counts, and "not done" only if both say so:
// it speaks of its own attempt.
func TestEither(t *testing.T) {
	for _, c := range []struct{ a, b, want history.Outcome }{
		{history.Done, history.Unknown, history.Done},
		{history.Refused, history.Done, history.Done},
		{history.NotDone, history.Unknown, history.Unknown},
		{history.Refused, history.Unknown, history.Unknown},
		{history.NotDone, history.Refused, history.Refused},
		{history.NotDone, history.NotDone, history.NotDone},
	} {
		a, b := &Answer{Outcome: c.a}, &Answer{Outcome: c.b}
		if x, y := either(a, b), either(b, a); x.Outcome != c.want || y.Outcome != c.want {
			t.Errorf("%v and %v are %v, and the other way round %v; want %v", c.a, c.b, x.Outcome, y.Outcome, c.want)
		}
	}
}

func TestAnswersThatDiffer(t *testing.T) {
	first := Answer{Node: 1, Outcome: history.Done, Number: 7, Index: 9}
	same, other, silent := first, first, Answer{Outcome: history.Unknown}
	same.Node, other.Number = 2, 8
	if first.differs(&same) || first.differs(&silent) || !first.differs(&other) {
		t.Error("only two answers of success with different contents contradict each other")
	}
}
