package model

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/conclave-secrets/conclave/jepsen/history"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// lease is the state of one lease. Its times are log times.
type lease struct {
	generation uint64 // 0: not granted yet
	expires    time.Time
	exact      bool // expires is known; else it is that or later: a renewal whose answer was lost
	ended      bool
}

// step is the lease's promise: it is there until it expires on log time or is
// revoked, and not a moment after either. All renewals in a workload ask for
// the TTL of the grant, so that an unknown one can only move expiry ahead.
func (l lease) step(o *history.Op) (bool, lease) {
	if o.Kind == history.Grant {
		next := lease{generation: 1, expires: o.Expires, exact: true}
		return l.generation == 0 && o.Outcome == history.Done, next
	}
	if l.generation == 0 {
		return false, l // ids are drawn by the cluster: nobody could ask before
	}
	if o.Outcome == history.Unknown {
		return true, l.perhaps(o)
	}
	if o.Outcome == history.Refused {
		return l.gone(o)
	}
	switch o.Kind {
	case history.Renew:
		ok := !l.ended && o.Number == l.generation+1
		granted := o.Expires.Add(-o.TTL) // log time of the renewal
		if l.exact && !granted.Before(l.expires) {
			ok = false // it had expired by then
		}
		return ok, lease{generation: o.Number, expires: o.Expires, exact: true}
	case history.Revoke:
		// To revoke a lease that has expired, and was not removed yet, is no error.
		l.ended = true
		return true, l
	case history.Lookup:
		ok := !l.ended && o.Number == l.generation && !o.Expires.Before(l.expires)
		if l.exact && !o.Expires.Equal(l.expires) {
			ok = false
		}
		l.expires, l.exact = o.Expires, true
		return ok, l
	}
	return false, l
}

// perhaps is the state after an op of which nobody knows more than that it was sent.
func (l lease) perhaps(o *history.Op) lease {
	switch {
	case l.ended:
	case o.Kind == history.Renew:
		l.generation++
		l.exact = false
	case o.Kind == history.Revoke:
		l.ended = true
	}
	return l
}

// gone is an answer that the lease is not there any more.
func (l lease) gone(o *history.Op) (bool, lease) {
	if o.Reason != conclavev1.Reason_REASON_NOT_FOUND && o.Reason != conclavev1.Reason_REASON_LEASE_EXPIRED {
		return false, l
	}
	due := !o.LogTime.Before(l.expires)
	ok := l.ended || due
	l.ended = true
	return ok, l
}

// Leases returns the model of leases: grant, renew, revoke, lookup and expiry.
func Leases() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return lease{} },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := state.(lease).step(input.(*history.Op))
			return ok, next
		},
		DescribeOperation: func(input, _ any) string { return input.(*history.Op).String() },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
}
