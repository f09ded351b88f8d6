package auth

import (
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// Kind tells in which way a login was refused.
type Kind uint8

const (
	// Invalid: the credential is wrong, or there is nobody of that name.
	Invalid Kind = iota + 1
	// Denied: the credential does not admit its bearer; another one may.
	Denied
	// Locked: too many logins have failed; the credential was not looked at.
	Locked
)

func (k Kind) String() string {
	if names := [...]string{"", "invalid", "denied", "locked"}; int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// A CredentialError refuses a login. Its text is the same whatever was wrong, so
// that it cannot be used to find out which names exist.
type CredentialError struct {
	Kind Kind
	// Text is what the caller is told.
	Text string
	// Why is for the audit log alone: a fixed phrase that quotes no input.
	Why string
}

func (e *CredentialError) Error() string { return e.Text }

// Unwrap makes it an engine.InvalidError to those who do not know it: a request
// that cannot succeed as it is, on this state.
func (e *CredentialError) Unwrap() error { return &engine.InvalidError{Why: e.Text} }

// An UnavailableError says that a login could not be judged for now, because of
// what it needs beside the ledger: a turn to hash, or somebody else's keys.
type UnavailableError struct {
	What  string // a sentence for the caller, that quotes no input
	Retry time.Duration
	Cause error // for the node's own log; nil: there is none
}

func (e *UnavailableError) Error() string { return e.What }

// Unwrap returns the cause; it is not for the caller.
func (e *UnavailableError) Unwrap() error { return e.Cause }

// RetryAfterHint tells after which time another attempt makes sense.
func (e *UnavailableError) RetryAfterHint() time.Duration { return e.Retry }
