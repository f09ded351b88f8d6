package engine

import (
	"context"
	"fmt"
	"time"
)

// An Intent is an effect on an outside system that a handler asks for: a user in a
// database, say. It is carried out in four steps, of which each survives the end of
// any process:
//
//  1. The lease is committed as pending, with Undo: from now on it is known what may
//     be out there.
//  2. Act runs, once, outside any transaction.
//  3. The lease becomes active, for TTL from then on, and the caller gets the answer.
//  4. When the lease ends, by its time, its owner's or by hand, the effect is undone.
//
// Whatever fails after the first step, or takes longer than Within, leads to the
// fourth: the caller gets an error, and nothing stays behind.
type Intent struct {
	// System names the outside system within the mount. What waits to be undone is
	// listed by it, so that a system that is down keeps no other waiting.
	System string
	// Undo is all that it takes to undo the effect, and to renew it. It is kept with
	// the lease, sealed.
	Undo []byte
	// Within bounds Act.
	Within time.Duration
	// TTL and MaxTTL are those of the lease; they are cut to the mount's.
	TTL, MaxTTL time.Duration
	Renewable   bool
	// Act brings the effect about. It is the only step that is not repeated.
	Act func(context.Context) error
}

// Intend asks for an effect: what the handler answers reaches the caller only when
// the effect is there and its lease is active.
func (c *Call) Intend(i Intent) { c.answer.Intent = &i }

// Before has act run outside the transaction: after the request stands in the audit log,
// and before what was staged commits. Its failure fails the request, and nothing is
// committed. It may run several times, and the commit may fail after it.
func (c *Call) Before(act func(context.Context) error) {
	c.answer.Before = append(c.answer.Before, act)
}

// Again has the request handled once more when what was staged has committed, on a view
// that shows it: for what takes several commits. Only the last run's answer counts. What
// stands between two of them must make sense for ever, for a process may end there.
func (c *Call) Again() { c.answer.Again = true }

// A Host is what a transaction may tell beyond its mount.
type Host interface {
	// PasswordPolicyText returns a password policy as it was written.
	PasswordPolicyText(name string) (text string, ok bool, err error)
	// Leaseless tells whether the mount has no lease, nor an effect to undo. It is not
	// guarded.
	Leaseless() (bool, error)
}

// Host is nil where there is nothing beyond the mount, as in most tests.
func (c *Call) Host() Host {
	h, _ := c.Tx.(Host)
	return h
}

// Effects is what a Backend implements beside its routes if its routes ask for
// effects. The functions that it returns run outside the transaction, which has
// ended by then: they hold what they need.
type Effects interface {
	// Undo returns what undoes an effect. It may run several times, and when the
	// effect never came to be, or was undone by others: then it has nothing to do.
	Undo(c *Call, undo []byte) (func(context.Context) error, error)
	// Renew returns what has an effect last until then. It may run several times.
	Renew(c *Call, undo []byte, until time.Time) (func(context.Context) error, error)
}

// An OutsideError says that an outside system failed a request. Its text is for the
// caller and holds no secret.
type OutsideError struct {
	System string
	Why    string
	Cause  error // for errors.Is; it may quote what was sent, so no log has it
}

func (e *OutsideError) Error() string { return fmt.Sprintf("%s: %s", e.System, e.Why) }

// Unwrap returns the cause.
func (e *OutsideError) Unwrap() error { return e.Cause }
