package model

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// The requests of the workloads around access. Of those that make something only
// the acknowledged ones count: nobody knows the text of another token.
const (
	MakeToken   history.Kind = "make-token"   // a family of two: a parent and its child
	UseToken    history.Kind = "use-token"    // Value: which of the family
	RevokeToken history.Kind = "revoke-token" // Value: likewise
	MakeLimited history.Kind = "make-limited" // a token for LimitedUses requests
	UseLimited  history.Kind = "use-limited"
	MakeGate    history.Kind = "make-gate"  // a policy that allows, and a token that it rules
	SetPolicy   history.Kind = "set-policy" // Value: Allow or Deny
	UsePolicy   history.Kind = "use-policy" // a request that the policy decides on
	MakeWrapped history.Kind = "make-wrapped"
	Unwrap      history.Kind = "unwrap"
)

// The members of a family of tokens, and what a policy says.
const (
	Parent = "parent"
	Child  = "child"
	Allow  = "allow"
	Deny   = "deny"
)

// LimitedUses is how many requests a limited token is good for.
const LimitedUses = 3

// access is the state of one family of tokens, one limited token, one policy or one
// wrapped answer; each uses its own part.
type access struct {
	parentEnded, childEnded bool
	used                    int
	denied                  bool // policies begin by allowing
	opened                  bool
}

// step tells whether the op may happen in state s as it says, and what then.
func (s access) step(o *history.Op) (bool, access) {
	unknown := o.Outcome == history.Unknown
	done := o.Outcome == history.Done
	switch o.Kind {
	case MakeToken, MakeLimited, MakeGate, MakeWrapped:
		return true, s
	case UseToken:
		ended := s.childEnded || s.parentEnded
		if o.Value == Parent {
			ended = s.parentEnded
		}
		return unknown || done != ended, s
	case RevokeToken:
		// What is not there any more has been revoked: that is no refusal.
		if o.Value == Parent {
			s.parentEnded = true
		}
		s.childEnded = true
		return unknown || done, s
	case UseLimited:
		left := s.used < LimitedUses
		if left {
			s.used++
		}
		return unknown || done == left, s
	case SetPolicy:
		s.denied = o.Value == Deny
		return unknown || done, s
	case UsePolicy:
		return unknown || done != s.denied, s
	case Unwrap:
		fresh := !s.opened
		s.opened = true
		return unknown || done == fresh, s
	}
	return false, s
}

// Access returns the model of what lets callers in: nothing is allowed after an
// acknowledged revocation or denial, nothing denied after an acknowledged permission, a
// limited token is good for LimitedUses requests exactly, and a wrapped answer is
// given out once. Its ops are those of one key, and of the kinds above.
func Access() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return access{} },
		Step: func(state, input, _ any) (bool, any) {
			ok, next := state.(access).step(input.(*history.Op))
			return ok, next
		},
		DescribeOperation: func(input, _ any) string { return input.(*history.Op).String() },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
}

// IsAccess tells whether Access is the model of ops of this kind.
func IsAccess(k history.Kind) bool {
	switch k {
	case MakeToken, UseToken, RevokeToken, MakeLimited, UseLimited, MakeGate, SetPolicy, UsePolicy, MakeWrapped, Unwrap:
		return true
	}
	return false
}

// ChangesAccess tells whether an op of a kind that IsAccess may change the state: of
// the others, those whose outcome is unknown say nothing.
func ChangesAccess(k history.Kind) bool {
	switch k {
	case RevokeToken, UseLimited, SetPolicy, Unwrap:
		return true
	}
	return false
}
