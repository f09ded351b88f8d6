package core

import (
	"context"
	"testing"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/policy"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// alone is a ledger without a quorum.
type alone struct{ *single }

func (alone) ReadIndex(context.Context) (uint64, error) { return 0, fsm.ErrNotDone }

// Who may look at a node is known from what the node has. That somebody may not is
// believed only if a quorum says so, or there is none to ask.
func TestPermit(t *testing.T) {
	h := newHouse(t)
	lag := func() { // to the node, nothing has happened yet
		t.Helper()
		view, err := newSingle(t).View()
		if err != nil {
			t.Fatal(err)
		}
		h.ledger.stale = view
	}
	id, err := h.pipeline.Permit(t.Context(), h.root, Act{Path: "sys/metrics", Capability: policy.CapabilityRead})
	if err != nil || id == "" {
		t.Errorf("root: %q %v", id, err)
	}
	lag()
	if id, err = h.pipeline.Permit(t.Context(), h.root, Act{Path: "sys/metrics", Capability: policy.CapabilityRead}); err != nil || id == "" {
		t.Errorf("a token that the node has not seen yet: %q %v", id, err)
	}
	_, err = h.pipeline.Permit(t.Context(), Caller{}, Act{Path: "sys/metrics", Capability: policy.CapabilityRead})
	want(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)

	h.pipeline.views.ledger = alone{h.ledger}
	if _, err = h.pipeline.Permit(t.Context(), h.root, Act{Path: "sys/metrics", Capability: policy.CapabilityRead}); err != nil {
		t.Errorf("without a quorum: %v", err)
	}
	lag()
	_, err = h.pipeline.Permit(t.Context(), h.root, Act{Path: "sys/metrics", Capability: policy.CapabilityRead})
	want(t, err, conclavev1.Reason_REASON_UNAUTHENTICATED)
}
