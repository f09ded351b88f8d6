// Package model says what a correct cluster may answer: small sequential
// machines, one for a secret and one for a lease, that porcupine holds histories
// against. They are written from the promises of the API, not from the code of
// the store, and keep no index, session or seal. Start reading at Secrets.
package model

import (
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"

	"github.com/conclave-secrets/conclave/jepsen/history"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// keptVersions is how many versions a secret keeps when it says nothing.
const keptVersions = 10

// secret is the state of one secret: its versions, the oldest first. Version
// numbers start at 1. It is never changed in place.
type secret []version

type version struct {
	value     string
	deleted   bool
	destroyed bool
}

func (s secret) current() uint64 { return uint64(len(s)) }

// at returns version n, or false when it was never written or has made way.
func (s secret) at(n uint64) (version, bool) {
	if n == 0 || n > s.current() || n+keptVersions <= s.current() {
		return version{}, false
	}
	return s[n-1], true
}

func (s secret) with(n uint64, v version) secret {
	next := slices.Clone(s)
	next[n-1] = v
	return next
}

// step tells whether the op may happen in state s as it says, and what then.
// An unknown op may always happen: what it would have been told is not known.
func (s secret) step(o *history.Op) (bool, secret) {
	switch o.Kind {
	case history.Put:
		return s.put(o)
	case history.Get:
		return s.get(o), s
	case history.Delete:
		return s.change(o, s.current(), func(v version) version { v.deleted = true; return v })
	case history.Undelete:
		if v, ok := s.at(o.Version); ok && v.destroyed {
			return o.Outcome == history.Unknown || refused(o, conclavev1.Reason_REASON_VERSION_DESTROYED), s
		}
		return s.change(o, o.Version, func(v version) version { v.deleted = false; return v })
	case history.Destroy:
		return s.change(o, o.Version, func(v version) version { v.destroyed = true; return v })
	}
	return false, s
}

func (s secret) put(o *history.Op) (bool, secret) {
	if o.CAS != nil && *o.CAS != s.current() {
		// Vault's API does not tell the current version, which makes it 0 here.
		mismatch := refused(o, conclavev1.Reason_REASON_CAS_MISMATCH) && (o.Number == s.current() || o.Number == 0)
		return o.Outcome == history.Unknown || mismatch, s
	}
	next := append(slices.Clone(s), version{value: o.Value})
	return o.Outcome == history.Unknown || o.Outcome == history.Done && o.Number == next.current(), next
}

func (s secret) get(o *history.Op) bool {
	n := o.Version
	if n == 0 {
		n = s.current()
	}
	v, ok := s.at(n)
	switch {
	case !ok:
		return refused(o, conclavev1.Reason_REASON_NOT_FOUND)
	case v.destroyed:
		return refused(o, conclavev1.Reason_REASON_VERSION_DESTROYED)
	case v.deleted:
		return refused(o, conclavev1.Reason_REASON_VERSION_DELETED)
	}
	return o.Outcome == history.Done && o.Number == n && o.Read == v.value
}

func (s secret) change(o *history.Op, n uint64, to func(version) version) (bool, secret) {
	v, ok := s.at(n)
	if !ok {
		return o.Outcome == history.Unknown || refused(o, conclavev1.Reason_REASON_NOT_FOUND), s
	}
	return o.Outcome == history.Unknown || o.Outcome == history.Done, s.with(n, to(v))
}

func refused(o *history.Op, r conclavev1.Reason) bool {
	return o.Outcome == history.Refused && o.Reason == r
}

// Secrets returns the model of versioned secrets: numbering, check-and-set, soft
// delete, undelete, destroy and the limit on kept versions.
func Secrets() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return secret(nil) },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := state.(secret).step(input.(*history.Op))
			return ok, next
		},
		Equal:             func(a, b any) bool { return slices.Equal(a.(secret), b.(secret)) },
		DescribeOperation: func(input, _ any) string { return input.(*history.Op).String() },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
}
