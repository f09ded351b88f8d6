// Package history is what clients of a cluster saw: every request with the
// moments of its call and its return, and what came back. Workloads record it,
// jepsen/model and jepsen/check judge it. Nothing here sends a request or knows
// what is right. Start reading at Op.
package history

import (
	"fmt"
	"sync"
	"time"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Kind is what a request asks for.
type Kind string

// The requests that workloads send.
const (
	Put      Kind = "put"
	Get      Kind = "get"
	Delete   Kind = "delete" // of the current version
	Undelete Kind = "undelete"
	Destroy  Kind = "destroy"
	Grant    Kind = "grant"
	Renew    Kind = "renew"
	Revoke   Kind = "revoke"
	Lookup   Kind = "lookup"
	Transfer Kind = "transfer" // between two accounts of a bank
	Balances Kind = "balances" // of all accounts of a bank
)

// Writes tells whether the request may change something.
func (k Kind) Writes() bool { return k != Get && k != Lookup && k != Balances }

// Outcome is how a request ended.
type Outcome uint8

const (
	// Done: carried out and answered.
	Done Outcome = iota + 1
	// Refused: the state forbade it, and Reason says how: that is an answer, too.
	Refused
	// NotDone: not carried out, for a reason that tells nothing about the state.
	NotDone
	// Unknown: nobody knows; it may still take effect at any time, or never.
	Unknown
)

func (o Outcome) String() string {
	switch o {
	case Done:
		return "done"
	case Refused:
		return "refused"
	case NotDone:
		return "not done"
	case Unknown:
		return "unknown"
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// An Op is one request and its end. A request that was sent twice under one
// idempotency key is one Op from its first call to its first answer.
type Op struct {
	Client, Node int
	Life         int // of the process that answered
	Kind         Kind
	Key          string // path of the secret, or id of the lease
	Called       time.Duration
	Returned     time.Duration
	Sent         int  // how often it was sent, under one idempotency key
	Faulty       bool // some fault was at work between the two

	Value   string        // put: the value, never used twice
	CAS     *uint64       // put
	Version uint64        // get (0: the current one), undelete, destroy
	TTL     time.Duration // grant and renew

	Level   conclavev1.Consistency // reads; 0: linearizable
	AtLeast uint64
	MaxAge  time.Duration

	Outcome Outcome
	Reason  conclavev1.Reason
	Number  uint64 // version that was written or read; of a lease the generation; of a failed check-and-set the current version
	Read    string // the value read
	Index   uint64
	Expires time.Time // of a lease
	LogTime time.Time // the highest log time that any node had reached when the op returned
}

// Linearizable tells whether the op claims linearizability.
func (o *Op) Linearizable() bool {
	return o.Level == conclavev1.Consistency_CONSISTENCY_UNSPECIFIED || o.Level == conclavev1.Consistency_CONSISTENCY_LINEARIZABLE
}

// String describes the op in one line.
func (o *Op) String() string {
	s := fmt.Sprintf("%v..%v client %d n%d.%d %s %s", o.Called, o.Returned, o.Client, o.Node, o.Life, o.Kind, o.Key)
	if o.Value != "" {
		s += " value " + o.Value
	}
	if o.CAS != nil {
		s += fmt.Sprintf(" cas %d", *o.CAS)
	}
	if o.Version != 0 {
		s += fmt.Sprintf(" version %d", o.Version)
	}
	if !o.Linearizable() {
		s += fmt.Sprintf(" (%v, at least %d, max age %v)", o.Level, o.AtLeast, o.MaxAge)
	}
	s += " -> " + o.Outcome.String()
	if o.Reason != 0 {
		s += " " + o.Reason.String()
	}
	s += fmt.Sprintf(" number %d", o.Number)
	if o.Read != "" {
		s += " read " + o.Read
	}
	if !o.Expires.IsZero() {
		s += fmt.Sprintf(" expires %d", o.Expires.UnixNano())
	}
	return s + fmt.Sprintf(" index %d", o.Index)
}

// Log collects ops from several clients. The zero value is empty.
type Log struct {
	mu  sync.Mutex
	ops []*Op
}

// Add takes an op that has ended; it is not changed any more.
func (l *Log) Add(o *Op) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, o)
}

// Ops returns what was collected, in the order in which it ended.
func (l *Log) Ops() []*Op {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ops
}
