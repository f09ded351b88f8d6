package cluster

import (
	"errors"
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
)

var (
	// ErrNoLeader: no leader was found before the context ended.
	ErrNoLeader = fmt.Errorf("no leader: %w", fsm.ErrNotDone)
	// ErrNotLeader: this node does not lead; ask the leader.
	ErrNotLeader = fmt.Errorf("not the leader: %w", fsm.ErrNotDone)
	// ErrTooLarge: the batch exceeds Config.MaxBatch.
	ErrTooLarge = fmt.Errorf("batch too large: %w", fsm.ErrNotDone)
	// ErrClosed: the node was closed or has halted.
	ErrClosed = fmt.Errorf("node is stopped: %w", fsm.ErrStopped)
	// ErrUnsafe: the change of membership would leave too few live voters.
	ErrUnsafe = errors.New("would lose the quorum of live voters")
	// ErrUnknownMember: no member has this id.
	ErrUnknownMember = errors.New("no such member")
	// ErrMembershipMoved: another change of membership came first; look again.
	ErrMembershipMoved = errors.New("membership changed meanwhile")
	// ErrNoTarget: no voter is fit to take over leadership.
	ErrNoTarget = errors.New("no voter can take over")
	// ErrTransferRunning: a leadership transfer is already under way.
	ErrTransferRunning = errors.New("a leadership transfer is under way")
	// ErrAmnesia: the log ends before what the state machine has applied, so
	// the log was lost or replaced. The node must rejoin under a new id.
	ErrAmnesia = errors.New("log ends before the applied state")
	// ErrRemoved: the leader says that this node is no member any more. It can
	// only come back as a new node, with an empty data directory.
	ErrRemoved = errors.New("node was removed from the cluster")
	// ErrNoPreVote: the transport has no pre-vote, which the library would
	// accept silently.
	ErrNoPreVote = errors.New("transport lacks pre-vote")
	// ErrEntryUnknown: the log does not hold the asked entry as committed.
	ErrEntryUnknown = errors.New("entry not held")
)

// OverloadedError says that a queue is full and the batch was not taken. It is
// fsm.ErrNotDone.
type OverloadedError struct {
	// RetryAfter is a hint: by then about half of the queue has drained.
	RetryAfter time.Duration
}

// ErrOverloaded matches every OverloadedError with errors.Is.
var ErrOverloaded = fmt.Errorf("overloaded: %w", fsm.ErrNotDone)

func (e *OverloadedError) Error() string {
	return fmt.Sprintf("overloaded, retry after %v", e.RetryAfter)
}

// RetryAfterHint is RetryAfter, for callers that declare an interface of their own.
func (e *OverloadedError) RetryAfterHint() time.Duration { return e.RetryAfter }

// Unwrap makes the error ErrOverloaded and fsm.ErrNotDone.
func (e *OverloadedError) Unwrap() error { return ErrOverloaded }

// DivergedError is the reason of a halt: a majority of the members has another
// state at Index.
type DivergedError struct {
	Index        uint64
	Ours, Theirs fsm.StateHash
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("state diverged at index %d: ours %x, of the majority %x", e.Index, e.Ours[:8], e.Theirs[:8])
}
