package workload

import (
	"errors"
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// An Answer is the end of one attempt.
type Answer struct {
	Node, Life int // who answered
	Outcome    history.Outcome
	Reason     conclavev1.Reason
	Number     uint64
	Read       string
	Index      uint64
	ID         string // of a lease
	Expires    time.Time
}

// A Failure is how an attempt failed, in the words of the API.
type Failure struct {
	Reason  conclavev1.Reason // unspecified: nobody answered
	Unknown bool              // what was asked may have been done
	Current uint64            // of a failed check-and-set: the current version
	Excused bool              // who answered is known to be broken, and may say anything
	Cause   error             // for people
}

func (f *Failure) Error() string { return fmt.Sprintf("%v: %v", f.Reason, f.Cause) }

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }

// meaning is what a reason says about a request.
type meaning int

const (
	impossible meaning = iota + 1 // no request of a workload can be told so
	refused                       // the state forbids it: an answer
	turnedAway                    // likewise, and only of requests around access
	notDone                       // the cluster did not come to it
	unknown                       // nobody knows
)

// meanings are those of all reasons.
var meanings = map[conclavev1.Reason]meaning{
	conclavev1.Reason_REASON_UNSPECIFIED:            notDone,
	conclavev1.Reason_REASON_INVALID:                turnedAway,
	conclavev1.Reason_REASON_UNAUTHENTICATED:        turnedAway,
	conclavev1.Reason_REASON_DENIED:                 turnedAway,
	conclavev1.Reason_REASON_NOT_FOUND:              refused,
	conclavev1.Reason_REASON_VERSION_DELETED:        refused,
	conclavev1.Reason_REASON_VERSION_DESTROYED:      refused,
	conclavev1.Reason_REASON_CAS_MISMATCH:           refused,
	conclavev1.Reason_REASON_CAS_REQUIRED:           impossible,
	conclavev1.Reason_REASON_CONFLICT:               notDone,
	conclavev1.Reason_REASON_IDEMPOTENCY_MISMATCH:   impossible,
	conclavev1.Reason_REASON_TOO_LARGE:              impossible,
	conclavev1.Reason_REASON_SEALED:                 notDone,
	conclavev1.Reason_REASON_NOT_INITIALIZED:        impossible,
	conclavev1.Reason_REASON_ALREADY_INITIALIZED:    impossible,
	conclavev1.Reason_REASON_NO_LEADER:              notDone,
	conclavev1.Reason_REASON_OVERLOADED:             notDone,
	conclavev1.Reason_REASON_UNKNOWN_OUTCOME:        unknown,
	conclavev1.Reason_REASON_SHARE_GARBLED:          impossible,
	conclavev1.Reason_REASON_SHARE_WRONG:            impossible,
	conclavev1.Reason_REASON_SHARE_REPEATED:         impossible,
	conclavev1.Reason_REASON_SHARE_FOREIGN_CLUSTER:  impossible,
	conclavev1.Reason_REASON_SHARE_WRONG_GENERATION: impossible,
	conclavev1.Reason_REASON_JOIN_TOKEN_INVALID:     impossible,
	conclavev1.Reason_REASON_JOIN_TOKEN_EXPIRED:     impossible,
	conclavev1.Reason_REASON_LEASE_EXPIRED:          refused,
	conclavev1.Reason_REASON_LEASE_EXISTS:           impossible,
	conclavev1.Reason_REASON_DISK_FULL:              notDone,
	conclavev1.Reason_REASON_INTERNAL:               impossible,
	conclavev1.Reason_REASON_UNSAFE:                 impossible,
	conclavev1.Reason_REASON_INDEX_NOT_REACHED:      notDone,
	conclavev1.Reason_REASON_OUTSIDE:                impossible,
}

// Conclude settles what became of o when it was told err: nil, or a *Failure. It
// returns an error when no such request can be told that.
func (a *Answer) Conclude(o *history.Op, err error) error {
	if err == nil {
		a.Outcome = history.Done
		return nil
	}
	var f *Failure
	if !errors.As(err, &f) {
		a.end(o, &Failure{Unknown: true})
		return fmt.Errorf("an error without a reason: %v: %w", o, err)
	}
	a.end(o, f)
	if !f.Excused && !possible(o, f.Reason) {
		return fmt.Errorf("an answer that this request cannot have: %v: %w", o, f)
	}
	return nil
}

func (a *Answer) end(o *history.Op, f *Failure) {
	a.Reason = f.Reason
	switch meanings[f.Reason] {
	case refused, turnedAway:
		a.Outcome, a.Number = history.Refused, f.Current
	case unknown:
		a.Outcome = history.Unknown
	default:
		a.Outcome = history.NotDone
	}
	if f.Unknown && o.Kind.Writes() {
		// Also after a plain refusal: an earlier attempt may have been carried out.
		a.Outcome, a.Number = history.Unknown, 0
	}
}

// possible tells whether o can be told this reason.
func possible(o *history.Op, reason conclavev1.Reason) bool {
	switch meanings[reason] {
	case refused, notDone, unknown:
		return true
	case turnedAway:
		return model.IsAccess(o.Kind)
	}
	return false
}

// differs tells whether two answers to one request, sent twice, contradict each other.
func (a *Answer) differs(b *Answer) bool {
	return a.Outcome == history.Done && b.Outcome == history.Done && (a.Number != b.Number || a.Index != b.Index || a.ID != b.ID)
}

// either is the outcome of two attempts of which at most one took effect.
func either(a, b *Answer) *Answer {
	for _, want := range []history.Outcome{history.Done, history.Unknown} {
		for _, x := range []*Answer{a, b} {
			if x.Outcome == want {
				return x
			}
		}
	}
	if a.Outcome == history.NotDone {
		return b
	}
	return a
}
