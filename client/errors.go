package client

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Sentinels for errors.Is. An *Error matches every sentinel whose description
// holds for it.
var (
	// ErrInvalid: the request itself is wrong and will never succeed.
	ErrInvalid = errors.New("invalid request")
	// ErrUnauthenticated: no token, or one that is not valid.
	ErrUnauthenticated = errors.New("not authenticated")
	// ErrDenied: the token does not permit this. It includes ErrUnauthenticated.
	ErrDenied = errors.New("permission denied")
	// ErrNotFound: no such secret, version or lease; also a version that was
	// deleted or destroyed, and a lease that has expired.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the state is not what the request assumed.
	ErrConflict = errors.New("conflict")
	// ErrSealed: no node that could be reached is unsealed and initialised.
	ErrSealed = errors.New("sealed")
	// ErrNoLeader: the cluster has no leader, so no quorum.
	ErrNoLeader = errors.New("no leader")
	// ErrOverloaded: the cluster refused work to stay alive.
	ErrOverloaded = errors.New("overloaded")
	// ErrTooLarge: a value or a path is over the limit of the server.
	ErrTooLarge = errors.New("too large")
	// ErrShare: a share of the root key was refused.
	ErrShare = errors.New("share refused")
	// ErrUnavailable: no node could be reached.
	ErrUnavailable = errors.New("no node reachable")
	// ErrUnknownOutcome: the write may have been carried out, or may yet be.
	// Not a failure: send it again under the Error's IdempotencyKey to learn
	// what happened.
	ErrUnknownOutcome = errors.New("outcome unknown")
)

// A Reason is a closed list of what can go wrong, for programs to branch on.
// Its text is the name in conclave.v1.Reason, in lower case.
type Reason string

// The reasons.
const (
	ReasonInvalid              Reason = "invalid"
	ReasonUnauthenticated      Reason = "unauthenticated"
	ReasonDenied               Reason = "denied"
	ReasonNotFound             Reason = "not_found"
	ReasonVersionDeleted       Reason = "version_deleted"
	ReasonVersionDestroyed     Reason = "version_destroyed"
	ReasonCASMismatch          Reason = "cas_mismatch"
	ReasonCASRequired          Reason = "cas_required"
	ReasonConflict             Reason = "conflict"
	ReasonIdempotencyMismatch  Reason = "idempotency_mismatch"
	ReasonTooLarge             Reason = "too_large"
	ReasonSealed               Reason = "sealed"
	ReasonNotInitialized       Reason = "not_initialized"
	ReasonAlreadyInitialized   Reason = "already_initialized"
	ReasonNoLeader             Reason = "no_leader"
	ReasonOverloaded           Reason = "overloaded"
	ReasonUnknownOutcome       Reason = "unknown_outcome"
	ReasonShareGarbled         Reason = "share_garbled"
	ReasonShareWrong           Reason = "share_wrong"
	ReasonShareRepeated        Reason = "share_repeated"
	ReasonShareForeignCluster  Reason = "share_foreign_cluster"
	ReasonShareWrongGeneration Reason = "share_wrong_generation"
	ReasonJoinTokenInvalid     Reason = "join_token_invalid"
	ReasonJoinTokenExpired     Reason = "join_token_expired"
	ReasonLeaseExpired         Reason = "lease_expired"
	ReasonLeaseExists          Reason = "lease_exists"
	ReasonDiskFull             Reason = "disk_full"
	ReasonInternal             Reason = "internal"
	ReasonUnsafe               Reason = "unsafe"
	ReasonIndexNotReached      Reason = "index_not_reached"
	ReasonOutside              Reason = "outside" // an outside system, such as a database, failed the request

	// ReasonUnavailable is the client's own: the node could not be reached, or
	// the connection broke before it answered.
	ReasonUnavailable Reason = "unavailable"
	// ReasonEnded is the client's own: the context of the call ended.
	ReasonEnded Reason = "ended"
)

// An Outcome says what a failed call did to the state.
type Outcome string

// The outcomes.
const (
	OutcomeDone    Outcome = "done"
	OutcomeNotDone Outcome = "not done"
	OutcomeUnknown Outcome = "unknown"
)

// An Error is the failure of one call, after all its repetitions. It holds
// nothing secret.
type Error struct {
	// Activity is what was attempted and on what: `getting secret "a/b"`.
	Activity string
	// Node is the address that answered last; empty when none did.
	Node    string
	Reason  Reason
	Outcome Outcome
	// Message is the server's explanation, one sentence.
	Message string
	// Hint is what to do next, one sentence; it may be empty.
	Hint string
	// RetryAfter is the server's wish; zero when it has none.
	RetryAfter time.Duration
	// CurrentVersion is set on a check-and-set mismatch.
	CurrentVersion uint64
	// ShareIndex is the number of the share that was refused, when known.
	ShareIndex uint32
	// IdempotencyKey is the key that the write carried. Sending the same
	// request under it again resolves an unknown outcome.
	IdempotencyKey string

	// cause is a context error or a connection error, for errors.Is and As.
	cause error
}

// Error tells activity, message and, when it is unknown, the outcome.
func (e *Error) Error() string {
	text := e.Activity + ": " + e.Message
	if e.Outcome == OutcomeUnknown {
		text += " (the outcome is unknown: it may have been done, or may yet be)"
	}
	return text
}

// Unwrap returns the error of the context or the connection behind e, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Is reports whether target is a sentinel that describes e.
func (e *Error) Is(target error) bool {
	if target == ErrUnknownOutcome {
		return e.Outcome == OutcomeUnknown
	}
	for _, sentinel := range sentinels[e.Reason] {
		if target == sentinel {
			return true
		}
	}
	return false
}

// sentinels is the whole table from reasons to sentinels.
var sentinels = map[Reason][]error{
	ReasonInvalid:              {ErrInvalid},
	ReasonUnauthenticated:      {ErrUnauthenticated, ErrDenied},
	ReasonDenied:               {ErrDenied},
	ReasonNotFound:             {ErrNotFound},
	ReasonVersionDeleted:       {ErrNotFound},
	ReasonVersionDestroyed:     {ErrNotFound},
	ReasonCASMismatch:          {ErrConflict},
	ReasonCASRequired:          {ErrConflict},
	ReasonConflict:             {ErrConflict},
	ReasonIdempotencyMismatch:  {ErrConflict},
	ReasonTooLarge:             {ErrTooLarge, ErrInvalid},
	ReasonSealed:               {ErrSealed},
	ReasonNotInitialized:       {ErrSealed},
	ReasonAlreadyInitialized:   {ErrConflict},
	ReasonNoLeader:             {ErrNoLeader},
	ReasonOverloaded:           {ErrOverloaded},
	ReasonShareGarbled:         {ErrShare, ErrInvalid},
	ReasonShareWrong:           {ErrShare, ErrInvalid},
	ReasonShareRepeated:        {ErrShare, ErrInvalid},
	ReasonShareForeignCluster:  {ErrShare, ErrInvalid},
	ReasonShareWrongGeneration: {ErrShare, ErrInvalid},
	ReasonJoinTokenInvalid:     {ErrDenied},
	ReasonJoinTokenExpired:     {ErrDenied},
	ReasonLeaseExpired:         {ErrNotFound},
	ReasonLeaseExists:          {ErrConflict},
	ReasonUnsafe:               {ErrConflict},
	ReasonUnavailable:          {ErrUnavailable},
}

// AsError returns the *Error in err's chain, or nil.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// activityLetters bounds how much of a path an error repeats. The rest of one
// that is refused for its length helps nobody.
const activityLetters = 128

// activity names what is done to a path: what ends in "in" or "under" where the
// path may be empty, which is the root.
func activity(what string, path string) string {
	if path == "" {
		return strings.TrimSuffix(strings.TrimSuffix(what, " in"), " under")
	}
	if letters := []rune(path); len(letters) > activityLetters {
		return fmt.Sprintf("%s %q…", what, string(letters[:activityLetters]))
	}
	return fmt.Sprintf("%s %q", what, path)
}
