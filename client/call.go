package client

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// How calls are repeated.
//
// A call asks the nodes one after another until one serves it. A node that is
// unreachable, sealed, leaderless or overloaded did not serve it; any other
// answer is final. When a whole round fails for a cause that passes by itself,
// the call waits (exponential back-off with jitter, never less than the server
// asked for) and goes round again.
//
// What may be repeated depends on what is known:
//
//   - reads: always;
//   - writes that were not done: always;
//   - writes of unknown outcome: only under an idempotency key, and then until
//     the context ends, because the next answer settles what happened;
//   - writes of unknown outcome without a key: never.
//
// Invariant: once an attempt ended with an unknown outcome, the call never ends
// with "not done" unless a node that serves said so under the same key.

// Back-off between rounds.
const (
	backoffFirst = 50 * time.Millisecond
	backoffMost  = 2 * time.Second
)

// deadlineSkew is how much earlier than ours a node may see our deadline pass.
const deadlineSkew = 100 * time.Millisecond

// idempotencyKeyBytes of randomness make one key; it is sent as hex.
const idempotencyKeyBytes = 16

type effect int

const (
	reads     effect = iota // repeating is free
	writes                  // repeating is safe under a key
	bareWrite               // a write without a key
)

// A call is one call of the API on its way through the nodes.
type call struct {
	client   *Client
	activity string
	effect   effect
	key      string

	last    *Error // the failure that explains most
	unknown *Error // the newest failure of unknown outcome

	// Of the present round:
	urged   time.Duration // the longest wait that a server asked for
	asked   bool          // some node has failed
	hopeful bool          // some node failed for a cause that passes by itself
	silent  []string      // what is known of each node that could not be reached
}

// firstError returns what explains most: mistake if there is one, else err.
func firstError(mistake *textError, err error) error {
	if mistake != nil {
		return mistake
	}
	return err
}

type attempt func(ctx context.Context, conn grpc.ClientConnInterface) error

// invoke carries out one call: it returns its answer or an *Error.
func invoke[Req, Resp any](
	ctx context.Context, c *Client, k call, request Req,
	method func(context.Context, grpc.ClientConnInterface, Req) (Resp, error),
) (Resp, error) {
	var answer Resp
	k.client = c
	err := k.run(ctx, func(ctx context.Context, conn grpc.ClientConnInterface) (err error) {
		answer, err = method(ctx, conn, request)
		if err != nil {
			return firstError(unsendable(request), err)
		}
		return nil
	})
	if err != nil {
		var none Resp
		return none, err
	}
	if indexed, ok := any(answer).(interface{ GetIndex() uint64 }); ok {
		c.session.saw(indexed.GetIndex())
	}
	return answer, nil
}

// run returns nil or an *Error.
func (k *call) run(ctx context.Context, try attempt) error {
	cfg := &k.client.config
	if cfg.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.Timeout)
		defer cancel()
	}
	begun := cfg.Clock.Now()
	for round := 0; ; round++ {
		served, final := k.round(ctx, try)
		if served {
			return nil
		}
		if final || !k.worthWaiting(begun) {
			return k.failure(nil)
		}
		if err := cfg.Clock.Wait(ctx, k.pause(round)); err != nil {
			return k.failure(err)
		}
	}
}

// round asks each node once. final means that repeating is of no use, or not
// allowed.
func (k *call) round(ctx context.Context, try attempt) (served, final bool) {
	clock, nodes := k.client.config.Clock, k.client.pool
	k.urged, k.asked, k.hopeful, k.silent = 0, false, false, nil
	for _, n := range nodes.order(clock.Now()) {
		e := k.ask(ctx, n, try)
		if e == nil {
			nodes.served(n)
			return true, false
		}
		k.note(ctx, e)
		if ctx.Err() != nil {
			return false, true
		}
		if !k.mayRepeat(e) {
			k.settle(e)
			return false, true
		}
		n.missed(clock.Now())
	}
	return false, false
}

// ask makes one attempt at one node.
func (k *call) ask(ctx context.Context, n *node, try attempt) *Error {
	conn, err := n.connection()
	if err != nil {
		return &Error{Node: n.address, Reason: ReasonUnavailable, Outcome: OutcomeNotDone, Message: err.Error(), cause: err}
	}
	attemptCtx, sent := withSentMark(ctx)
	if k.effect != bareWrite { // that one has no second attempt to save time for
		var cancel context.CancelFunc
		attemptCtx, cancel = context.WithTimeout(attemptCtx, k.client.config.AttemptTimeout)
		defer cancel()
	}
	cfg := &k.client.config
	err = try(cfg.withReason(attemptCtx), bearing{conn, cfg.Token})
	if err == nil {
		return nil
	}
	awaitOwnDeadline(attemptCtx, err)
	var text *textError
	if errors.As(err, &text) {
		return &Error{Node: n.address, Reason: ReasonInvalid, Outcome: OutcomeNotDone, Message: text.Error(),
			Hint: "Write texts in UTF-8; other bytes go into a binary value.", cause: text}
	}
	e := decode(err, sent.Load() && k.effect != reads)
	e.Node = n.address
	if k.effect == reads || !sent.Load() {
		e.Outcome = OutcomeNotDone
	}
	switch {
	case e.Reason == ReasonUnavailable && ctx.Err() != nil:
		outcome := e.Outcome
		*e = *ended(context.Cause(ctx))
		e.Node, e.Outcome = n.address, outcome
	case e.Reason == ReasonUnavailable:
		explainUnreachable(e, n, sent.Load(), attemptCtx.Err())
	}
	return e
}

// awaitOwnDeadline covers the race in which the node, which knows our deadline,
// notices its passing a moment before our context does.
func awaitOwnDeadline(ctx context.Context, err error) {
	deadline, bounded := ctx.Deadline()
	if bounded && status.Code(err) == codes.DeadlineExceeded && time.Until(deadline) < deadlineSkew {
		<-ctx.Done()
	}
}

// note keeps what the call will say if it ends now. "Sealed" and "no leader"
// explain more than "unreachable" and "out of time".
func (k *call) note(ctx context.Context, e *Error) {
	k.urged = max(k.urged, e.RetryAfter)
	switch e.Reason {
	case ReasonSealed, ReasonNotInitialized, ReasonInternal, ReasonDiskFull:
	default:
		k.hopeful = true
	}
	if e.Outcome == OutcomeUnknown {
		k.unknown = e
	}
	if e.Reason == ReasonUnavailable {
		k.silent = append(k.silent, e.Message)
	}
	first := !k.asked
	k.asked = true
	says := e.Reason != ReasonUnavailable && e.Reason != ReasonEnded
	if k.last == nil || says || (first && ctx.Err() == nil) {
		k.last = e
	}
}

// mayRepeat reports whether another attempt, here or elsewhere, is both useful
// and allowed.
func (k *call) mayRepeat(e *Error) bool {
	if e.Outcome == OutcomeUnknown {
		return k.effect == writes
	}
	return elsewhere(e.Reason) || e.RetryAfter > 0 || broken(e.Reason)
}

// broken reports whether something is wrong with the node that was asked: its audit
// log cannot be written, its disk is full. It judged nothing, so what it says is no
// verdict on earlier attempts; another node may serve.
func broken(r Reason) bool { return r == ReasonInternal || r == ReasonDiskFull }

// settle decides what a final answer says about earlier attempts of unknown
// outcome. A serving node has looked the idempotency key up before it judged
// the request, so its verdict holds for them too. Only a refusal of the
// credential comes before the look-up.
func (k *call) settle(e *Error) {
	k.last = e
	if e.Outcome == OutcomeUnknown || e.Reason == ReasonUnauthenticated || e.Reason == ReasonDenied {
		return
	}
	k.unknown = nil
}

// elsewhere reports whether another node, or the same a little later, may
// serve what this one did not.
func elsewhere(r Reason) bool {
	switch r {
	case ReasonUnavailable, ReasonSealed, ReasonNotInitialized, ReasonNoLeader,
		ReasonOverloaded, ReasonUnknownOutcome, ReasonIndexNotReached:
		return true
	}
	return false
}

// worthWaiting reports whether another round may end differently.
func (k *call) worthWaiting(begun time.Time) bool {
	if k.unknown != nil {
		return true
	}
	if !k.hopeful {
		return false // every node is sealed or broken: a person must act
	}
	return k.client.config.Clock.Now().Sub(begun) < k.client.config.RetryFor
}

// pause is the wait before the next round: half of it fixed, half by chance.
func (k *call) pause(round int) time.Duration {
	full := min(backoffMost, backoffFirst<<min(round, 10))
	jittered := full/2 + time.Duration(k.client.config.Jitter()*float64(full/2))
	return max(jittered, k.urged)
}

// failure assembles the error of the whole call. waitErr is set when the
// context ended between two rounds.
func (k *call) failure(waitErr error) *Error {
	e := k.last
	if e == nil {
		e = ended(waitErr)
	}
	out := *e
	if waitErr != nil && out.cause == nil {
		out.cause = waitErr
	}
	if k.unknown != nil {
		out.Outcome = OutcomeUnknown
		if out.Hint == "" || out.Reason != ReasonUnknownOutcome {
			out.Hint = hintUnknown(k.key)
		}
	}
	if out.Reason == ReasonUnavailable && len(k.silent) > 1 {
		out.Message = strings.Join(k.silent, "; ") // each node has its own cause
	}
	out.Activity = k.activity
	out.IdempotencyKey = k.key
	return &out
}

func hintUnknown(key string) string {
	if key == "" {
		return "Read the present state before repeating this; it carried no idempotency key."
	}
	return "Repeat it under the idempotency key " + key + ", or read the present state."
}

// explainUnreachable gives an attempt without an answer its message and hint.
func explainUnreachable(e *Error, n *node, sent bool, attemptErr error) {
	failure := n.connectionFailure()
	switch {
	case !sent && failure != nil:
		e.cause = failure
		e.Message = fmt.Sprintf("no connection to %s: %s", n.address, failure)
		e.Hint = hintConnection(failure)
	case attemptErr != nil:
		e.cause = attemptErr
		e.Message = fmt.Sprintf("%s did not answer in time", n.address)
		e.Hint = "Look at that node's log, or name another node."
	default:
		e.Message = fmt.Sprintf("the connection to %s broke", n.address)
		e.Hint = "Look at that node's log, or name another node."
	}
}

// newIdempotencyKey draws a key of 128 random bits.
func (c *Client) newIdempotencyKey() (string, error) {
	raw := make([]byte, idempotencyKeyBytes)
	if _, err := io.ReadFull(c.config.Entropy, raw); err != nil {
		return "", fmt.Errorf("drawing an idempotency key: %w", err)
	}
	return hex.EncodeToString(raw), nil
}

// errBothKeys is a mistake of the caller.
var errBothKeys = errors.New("an idempotency key was given and switched off")
