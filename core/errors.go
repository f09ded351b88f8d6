package core

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// Error is what a request can fail with. Transports only spell it. Its text is
// for the caller: it names no secret and no path.
type Error struct {
	Reason         conclavev1.Reason
	Outcome        conclavev1.Outcome
	Message        string
	Hint           string
	RetryAfter     time.Duration
	CurrentVersion uint64 // check-and-set: the version that is current
	Share          uint8  // unsealing: which share
	cause          error  // for the node's own log
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns what the node knows of the cause; it is not for the caller.
func (e *Error) Unwrap() error { return e.cause }

// refuse makes an error of a request that was not carried out.
func refuse(reason conclavev1.Reason, message, hint string) *Error {
	return &Error{Reason: reason, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE, Message: message, Hint: hint}
}

// Denied is a refusal for want of a right, in the given words.
func Denied(message string) *Error { return refuse(conclavev1.Reason_REASON_DENIED, message, "") }

// retryable is what an error of the ledger may say about itself.
type retryable interface{ RetryAfterHint() time.Duration }

// explain is the one table that turns whatever went wrong into an Error. writes
// tells whether the request could have changed something.
func explain(err error, writes bool) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	e := explainRefusal(err)
	if e == nil {
		e = explainLedger(err, writes)
	}
	e.cause = err
	return e
}

// explainRefusal knows the refusals of engines and of the seal.
func explainRefusal(err error) *Error {
	var (
		credential  *auth.CredentialError
		unavailable *auth.UnavailableError

		path     *engine.PathError
		invalid  *engine.InvalidError
		missing  *engine.NotFoundError
		gone     *engine.GoneError
		cas      *engine.CheckAndSetError
		large    *engine.TooLargeError
		outside  *engine.OutsideError
		foreign  *seal.AuthenticationError
		newerKey *seal.UnknownKeyError
	)
	switch {
	case errors.As(err, &credential): // it unwraps to invalid
		return explainCredential(credential)
	case errors.As(err, &unavailable):
		e := refuse(conclavev1.Reason_REASON_OVERLOADED, unavailable.What, "try again after the stated time")
		e.RetryAfter = unavailable.Retry
		return e
	case errors.As(err, &path):
		return refuse(conclavev1.Reason_REASON_INVALID, path.Error(), "write it as segments between single slashes, like app/db/password")
	case errors.As(err, &invalid):
		return refuse(conclavev1.Reason_REASON_INVALID, invalid.Error(), "")
	case errors.As(err, &missing):
		return refuse(conclavev1.Reason_REASON_NOT_FOUND, missing.Error(), "")
	case errors.As(err, &gone) && gone.Destroyed:
		return refuse(conclavev1.Reason_REASON_VERSION_DESTROYED, gone.Error(), "its data is gone for good; read another version")
	case errors.As(err, &gone):
		return refuse(conclavev1.Reason_REASON_VERSION_DELETED, gone.Error(), "undelete it, or read another version")
	case errors.As(err, &cas):
		return explainCheckAndSet(cas)
	case errors.As(err, &large):
		return refuse(conclavev1.Reason_REASON_TOO_LARGE, large.Error(), "split it, or raise the limit in the server's configuration")
	case errors.As(err, &outside):
		return refuse(conclavev1.Reason_REASON_OUTSIDE, outside.Error(), "see whether that system is reachable from the node, and what its own log says")
	case errors.Is(err, ErrNoMount):
		return refuse(conclavev1.Reason_REASON_NOT_FOUND, "no engine is mounted there", "")
	case errors.Is(err, ErrNoRoute), errors.Is(err, ErrNoVerb):
		return refuse(conclavev1.Reason_REASON_INVALID, err.Error(), "")
	case errors.Is(err, seal.ErrSealed):
		return errSealed()
	case errors.Is(err, seal.ErrName):
		return refuse(conclavev1.Reason_REASON_INVALID, "the path has too many segments", "use fewer and longer ones")
	case errors.As(err, &foreign), errors.Is(err, seal.ErrNameAltered):
		return refuse(conclavev1.Reason_REASON_INTERNAL, "a stored value fails its authentication: it was altered or moved", "check this node's disk; other nodes may have the value intact")
	case errors.As(err, &newerKey):
		return refuse(conclavev1.Reason_REASON_INTERNAL, "a stored value needs a key that this node does not have yet", "unseal this node again")
	}
	return nil
}

// explainCredential is a failed login, in the words of its method.
func explainCredential(c *auth.CredentialError) *Error {
	e := refuse(conclavev1.Reason_REASON_INVALID, c.Text, "")
	if c.Kind != auth.Invalid {
		e.Reason = conclavev1.Reason_REASON_DENIED
	}
	return e
}

func explainCheckAndSet(cas *engine.CheckAndSetError) *Error {
	e := refuse(conclavev1.Reason_REASON_CAS_MISMATCH, cas.Error(), "read the secret again and decide on what is there now")
	if cas.Required {
		e.Reason, e.Hint = conclavev1.Reason_REASON_CAS_REQUIRED, "name the version that you expect to be current"
	}
	e.CurrentVersion = cas.Current
	return e
}

func errSealed() *Error {
	return refuse(conclavev1.Reason_REASON_SEALED, "this node is sealed", "unseal it with conclave operator unseal, or ask another node")
}

// explainLedger knows how orders and reads end. What is not known to be undone
// is unknown, never a failure.
func explainLedger(err error, writes bool) *Error {
	var again retryable
	switch {
	case errors.Is(err, fsm.ErrUnknown):
		return errUnknown()
	case errors.As(err, &again):
		e := refuse(conclavev1.Reason_REASON_OVERLOADED, "the cluster has more to do than it can", "try again after the stated time")
		e.RetryAfter = again.RetryAfterHint()
		return e
	case errors.Is(err, fsm.ErrNotDone):
		return refuse(conclavev1.Reason_REASON_NO_LEADER, "there is no leader to order this", "try again; if it lasts, see whether a majority of the nodes runs: conclave operator members")
	case errors.Is(err, fsm.ErrStopped):
		// Of a proposal it comes with ErrUnknown or ErrNotDone; alone it is of a read
		// that the request began with, or that was to confirm its refusal.
		return refuse(conclavev1.Reason_REASON_NO_LEADER, "this node is stopping", "ask another node")
	case !writes && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
		return refuse(conclavev1.Reason_REASON_NO_LEADER, "no quorum confirmed the read in time", "try again, or read with weaker consistency")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return refuse(conclavev1.Reason_REASON_NO_LEADER, "the time was over before this could be ordered", "try again with more time")
	}
	return refuse(conclavev1.Reason_REASON_INTERNAL, "internal error; the node's log tells more", "")
}

func errUnknown() *Error {
	return &Error{Reason: conclavev1.Reason_REASON_UNKNOWN_OUTCOME, Outcome: conclavev1.Outcome_OUTCOME_UNKNOWN,
		Message: "whether this was done is not known: the cluster did not answer in time",
		Hint:    "send it again under the same idempotency key; it will be done once"}
}

// refusedBatch explains a batch that the machine refused.
func refusedBatch(r fsm.RefusedReason) *Error {
	switch r {
	case fsm.RefusedLeaseUnknown:
		return refuse(conclavev1.Reason_REASON_NOT_FOUND, "no such lease, or it has ended", "")
	case fsm.RefusedLeaseExpired:
		return refuse(conclavev1.Reason_REASON_LEASE_EXPIRED, "the lease is at its maximum and cannot be renewed", "grant a new one")
	case fsm.RefusedLeaseExists:
		return refuse(conclavev1.Reason_REASON_LEASE_EXISTS, "the lease exists already", "")
	case fsm.RefusedVersionUnknown, fsm.RefusedSecretUnknown:
		return refuse(conclavev1.Reason_REASON_NOT_FOUND, r.String(), "")
	case fsm.RefusedDestroyed:
		return refuse(conclavev1.Reason_REASON_VERSION_DESTROYED, r.String(), "")
	}
	return refuse(conclavev1.Reason_REASON_INTERNAL, fmt.Sprintf("the state machine refused the change: %v", r), "")
}
