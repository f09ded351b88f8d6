package cluster

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// L6: entries that are refused because of a transfer for longer than
// transferStuck fence the term; one that is accepted meanwhile starts the count anew.
func TestL6StuckTransferFencesTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{}
		cfg.fillSeams()
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		n := &Node{cfg: cfg, ctx: ctx, disk: &disk{clock: cfg.Clock, slow: time.Second}}
		o := &office{term: 7}
		refuse := func(d time.Duration) {
			o.refused(n, raft.ErrLeadershipTransferInProgress)
			<-time.After(d)
			o.refused(n, raft.ErrLeadershipTransferInProgress)
		}
		refuse(transferStuck - time.Millisecond)
		o.refused(n, nil)
		refuse(transferStuck - time.Millisecond)
		if n.muted(7) {
			t.Error("fenced before its time")
		}
		refuse(2 * time.Millisecond)
		if !n.muted(7) || n.muted(8) {
			t.Errorf("term 7 muted: %v, term 8 muted: %v; want only 7", n.muted(7), n.muted(8))
		}
	})
}
