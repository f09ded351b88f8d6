package server

import (
	"context"
	"errors"

	"github.com/conclave-secrets/conclave/cluster"
)

// rumours is gossip as the node uses it. Gossip opens after the node; until
// then nobody is heard.
type rumours struct{ m *member }

// Heard implements cluster.Rumours.
func (r rumours) Heard() []string {
	if g := r.m.gossipNow.Load(); g != nil {
		return g.Heard()
	}
	return nil
}

// Disown implements cluster.Rumours.
func (r rumours) Disown(ctx context.Context, ids []string) error {
	if g := r.m.gossipNow.Load(); g != nil {
		return g.Disown(ctx, ids)
	}
	return nil // nobody was heard, so nobody is disowned
}

// Disowned implements cluster.Rumours.
func (r rumours) Disowned() bool {
	g := r.m.gossipNow.Load()
	return g != nil && g.Disowned()
}

// ended says what to do about the reason for which the node halted, where that
// is more than to start it again.
func (m *member) ended(reason error) error {
	if errors.Is(reason, cluster.ErrRemoved) {
		return &DataDirError{m.cfg.DataDir, "belongs to a node that was removed from the cluster",
			"to take this machine in again, empty the directory and join with a new token: conclave operator join-token"}
	}
	return reason
}
