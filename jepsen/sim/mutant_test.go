package sim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/jepsen/sim"
	"github.com/conclave-secrets/conclave/storage/raftlog"
)

// The checkers are worth something only if they catch what is wrong. Each
// mutant is a fault that is planted between request path and ledger; each must
// be caught within the seeds that the simulation runs by default.

// localReads takes what this node has applied for what is current.
type localReads struct{ core.Ledger }

func (l localReads) ReadIndex(context.Context) (uint64, error) {
	v, err := l.View()
	if err != nil {
		return 0, err
	}
	return v.Index(), v.Close()
}

// hopefulWrites reports an unknown outcome as done.
type hopefulWrites struct{ core.Ledger }

func (l hopefulWrites) Propose(ctx context.Context, b *fsm.Batch) (fsm.Result, error) {
	r, err := l.Ledger.Propose(ctx, b)
	if errors.Is(err, fsm.ErrUnknown) {
		return fsm.Result{Code: fsm.Applied}, nil
	}
	return r, err
}

// gloomyWrites reports an unknown outcome as not done.
type gloomyWrites struct{ core.Ledger }

func (l gloomyWrites) Propose(ctx context.Context, b *fsm.Batch) (fsm.Result, error) {
	r, err := l.Ledger.Propose(ctx, b)
	if errors.Is(err, fsm.ErrUnknown) {
		return r, fmt.Errorf("given up: %w", fsm.ErrNotDone)
	}
	return r, err
}

// carelessWrites commits without looking whether what was read has changed.
type carelessWrites struct{ core.Ledger }

func (l carelessWrites) Propose(ctx context.Context, b *fsm.Batch) (fsm.Result, error) {
	c := *b
	c.Guards = nil
	return l.Ledger.Propose(ctx, &c)
}

// forgetfulWaits reads without waiting until the node has caught up. To ask for a
// read index is to wait, too, so it stands in front of localReads.
type forgetfulWaits struct{ core.Ledger }

func (l forgetfulWaits) WaitApplied(context.Context, uint64) error { return nil }

// loseTail has a log forget its last entries, as if fsync had lied.
func loseTail(log *raftlog.Memory) {
	last, err := log.LastIndex()
	if err == nil && last > 3 {
		err = log.DeleteRange(last-2, last)
	}
	if err != nil {
		panic(err)
	}
}

func between(ledger func(core.Ledger) core.Ledger) sim.Options { return sim.Options{Ledger: ledger} }

func TestMutantsAreCaught(t *testing.T) {
	mutants := []struct {
		name  string
		plant sim.Options
		by    string // what the finding must say
	}{
		{"reads without a read index", between(func(l core.Ledger) core.Ledger { return localReads{l} }), "is not linearizable"},
		{"reads without a read index, by index", between(func(l core.Ledger) core.Ledger { return localReads{l} }), "went back in time"},
		{"reads without waiting for the index", between(func(l core.Ledger) core.Ledger { return forgetfulWaits{localReads{l}} }), "below the index"},
		{"unknown reported as done", between(func(l core.Ledger) core.Ledger { return hopefulWrites{l} }), "is not linearizable"},
		{"unknown reported as not done", between(func(l core.Ledger) core.Ledger { return gloomyWrites{l} }), "said not to be done"},
		{"writes without guards", between(func(l core.Ledger) core.Ledger { return carelessWrites{l} }), ""},
		{"fsync that lies", sim.Options{Crash: loseTail}, ""},
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			for seed := range uint64(200) {
				o := m.plant
				o.Seed = seed
				err := simulate(t, o).Judge()
				if err != nil && strings.Contains(err.Error(), m.by) {
					summary, _, _ := strings.Cut(err.Error(), "\n")
					t.Logf("caught by seed %d: %s", seed, summary)
					return
				}
			}
			t.Error("not caught within 200 seeds")
		})
	}
}
