package cluster_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/cluster/clustertest"
	"github.com/conclave-secrets/conclave/fsm"
)

// A follower reads what was just written without waiting for the library to
// tell it the commit index: the round that confirms the read tells it.
func TestReadRoundCarriesTheCommitIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clustertest.New(t, 3, 3, func(cfg *cluster.Config) { cfg.CommitTimeout = time.Minute })
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		leader, follower := c.Leader().Node, c.Follower().Node
		for range 5 {
			b := &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpPutRecord, Key: []byte("k"), Value: []byte("v")}}}
			result, err := leader.Propose(ctx, b)
			if err != nil {
				t.Fatal(err)
			}
			// The round tells a follower what it is known to hold. The write needed
			// one of the two; let this one's answer arrive, too.
			<-time.After(10 * time.Millisecond)
			began := time.Now()
			index, err := follower.ReadIndex(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := follower.WaitApplied(ctx, index); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); index < result.Index || took > time.Second {
				t.Errorf("read at %d after a write at %d took %v", index, result.Index, took)
			}
		}
	})
}
