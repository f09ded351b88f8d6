package client

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// A Consistency says how fresh the answer to a read must be. Zero means the
// client's default: what Config.Consistency says, and linearizable otherwise.
type Consistency struct {
	level  conclavev1.Consistency
	maxAge time.Duration
	index  uint64
}

// Linearizable: the answer reflects every write acknowledged before the call.
func Linearizable() Consistency {
	return Consistency{level: conclavev1.Consistency_CONSISTENCY_LINEARIZABLE}
}

// Bounded: the answer is at most maxAge old.
func Bounded(maxAge time.Duration) Consistency {
	return Consistency{level: conclavev1.Consistency_CONSISTENCY_BOUNDED, maxAge: maxAge}
}

// AtLeast: the answer reflects at least the state at index.
func AtLeast(index uint64) Consistency {
	return Consistency{level: conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX, index: index}
}

// Local: whatever the node has; it answers without a leader.
func Local() Consistency {
	return Consistency{level: conclavev1.Consistency_CONSISTENCY_LOCAL}
}

// readOptions spells a consistency for the wire, filling in the default of the
// client or the session.
func (c *Client) readOptions(want Consistency) *conclavev1.ReadOptions {
	if want == (Consistency{}) {
		want = c.config.Consistency
		if c.session.causal {
			want = AtLeast(c.session.index.Load())
		}
	}
	out := &conclavev1.ReadOptions{Consistency: want.level, AtLeastIndex: want.index}
	if want.level == conclavev1.Consistency_CONSISTENCY_BOUNDED {
		out.MaxAge = durationpb.New(want.maxAge)
	}
	return out
}

// WriteOptions belong to each write.
type WriteOptions struct {
	// IdempotencyKey, up to 128 bytes: the same key with the same request is
	// carried out once and answered alike, for at least an hour. Empty: the
	// client draws one, so that its own repetitions are safe.
	IdempotencyKey string
	// NoIdempotencyKey sends none. A write of unknown outcome is then not
	// repeated but returned as ErrUnknownOutcome at once.
	NoIdempotencyKey bool
}

// write prepares one write: how it may be repeated, and its options on the wire.
func (c *Client) write(activity string, o WriteOptions) (call, *conclavev1.WriteOptions, error) {
	k := call{activity: activity, effect: writes, key: o.IdempotencyKey}
	switch {
	case o.NoIdempotencyKey && o.IdempotencyKey != "":
		return k, nil, &Error{Activity: activity, Reason: ReasonInvalid, Outcome: OutcomeNotDone, Message: errBothKeys.Error(), cause: errBothKeys}
	case o.NoIdempotencyKey:
		k.effect = bareWrite
		return k, nil, nil
	case o.IdempotencyKey == "":
		key, err := c.newIdempotencyKey()
		if err != nil {
			return k, nil, &Error{Activity: activity, Reason: ReasonInternal, Outcome: OutcomeNotDone, Message: err.Error(), cause: err}
		}
		k.key = key
	}
	return k, &conclavev1.WriteOptions{IdempotencyKey: k.key}, nil
}

// optionalDuration leaves zero out, which the API reads as "the default".
func optionalDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
