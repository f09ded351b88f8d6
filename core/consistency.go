package core

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// views opens views that are as fresh as a request demands.
type views struct {
	ledger Ledger
	clock  Clock
	// patience is how long a request waits for an index that this node has not
	// applied yet; 0: indexPatience.
	patience time.Duration

	mu        sync.Mutex
	confirmed uint64        // an index that was current …
	asOf      time.Duration // … at this moment of the monotonic clock
	known     bool
}

// open returns a view for the given options; nil means linearizable.
func (v *views) open(ctx context.Context, o *conclavev1.ReadOptions) (*fsm.View, error) {
	switch o.GetConsistency() {
	case conclavev1.Consistency_CONSISTENCY_LOCAL:
		return v.ledger.View()
	case conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX:
		return v.reach(ctx, o.GetAtLeastIndex())
	case conclavev1.Consistency_CONSISTENCY_BOUNDED:
		age := o.GetMaxAge().AsDuration()
		if age <= 0 {
			return nil, refuse(conclavev1.Reason_REASON_INVALID, "bounded consistency needs a max_age above zero", "")
		}
		if index, ok := v.recent(age); ok {
			return v.at(ctx, index)
		}
	case conclavev1.Consistency_CONSISTENCY_UNSPECIFIED, conclavev1.Consistency_CONSISTENCY_LINEARIZABLE:
	default:
		return nil, refuse(conclavev1.Reason_REASON_INVALID, "unknown consistency level", "")
	}
	index, err := v.confirm(ctx)
	if err != nil {
		return nil, err
	}
	return v.at(ctx, index)
}

// indexPatience is enough for a node that is a little behind. One that is cut off,
// or asked for an index that there is not yet, should say so before its client
// gives up: another node may be further.
const indexPatience = 2 * time.Second

// reach is at for an index that the caller has named: it waits for a short time.
func (v *views) reach(ctx context.Context, index uint64) (*fsm.View, error) {
	view, err := v.ledger.View()
	if err != nil || view.Index() >= index {
		return view, err
	}
	if err := view.Close(); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, cmp.Or(v.patience, indexPatience))
	defer cancel()
	// The leader tells with its answer what is committed, sooner than by itself. If
	// there is none, what is under way may still arrive.
	if _, err := v.confirm(wait); err != nil && wait.Err() != nil && ctx.Err() != nil {
		return nil, err
	}
	view, err = v.at(wait, index)
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		return nil, refuse(conclavev1.Reason_REASON_INDEX_NOT_REACHED, "this node has not yet what the request demands to be reflected",
			"try again, or ask another node")
	}
	return view, err
}

// Vouch returns a keyed hash of text, 32 bytes that the caller owns. Every unsealed
// node of the cluster makes the same, and nobody else can: so a node knows again
// what another has handed out. Different kinds of text never share a hash.
func (p *Pipeline) Vouch(kind, text string) ([]byte, error) {
	barrier, err := p.gate.Barrier()
	if err != nil {
		return nil, explain(err, false)
	}
	hash, err := barrier.ID("vouch/"+kind, []byte(text))
	if err != nil {
		return nil, explain(err, false)
	}
	return hash, nil
}

// at returns a view at index or later.
func (v *views) at(ctx context.Context, index uint64) (*fsm.View, error) {
	if err := v.ledger.WaitApplied(ctx, index); err != nil {
		return nil, err
	}
	return v.ledger.View()
}

// confirm asks the quorum for an index and remembers it with the moment at
// which the question was put: the answer is current as of then, not of now.
func (v *views) confirm(ctx context.Context) (uint64, error) {
	asked := v.clock.Monotonic()
	index, err := v.ledger.ReadIndex(ctx)
	if err != nil {
		return 0, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.known || asked > v.asOf {
		v.confirmed, v.asOf, v.known = max(index, v.confirmed), asked, true
	}
	return index, nil
}

// recent returns an index that was current at most age ago.
func (v *views) recent(age time.Duration) (uint64, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.confirmed, v.known && v.clock.Monotonic()-v.asOf <= age
}
