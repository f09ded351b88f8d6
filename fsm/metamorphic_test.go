package fsm

import (
	"flag"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	histories = flag.Int("histories", 50, "how many random histories the metamorphic and model tests run")
	firstSeed = flag.Uint64("seed", 1, "seed of the first random history")
)

// Equal logs give equal contents and equal answers, however the log is cut into
// calls of Apply, wherever the machine restarts from its disk, and wherever it
// is carried to another disk as a snapshot.
func TestMetamorphic(t *testing.T) {
	for seed := *firstSeed; seed < *firstSeed+uint64(*histories) && !t.Failed(); seed++ {
		h := newHistorian(t, seed)
		want := h.write(80)
		dice := rand.New(rand.NewPCG(seed, 3))
		for _, twist := range []twist{{calls: 1, restarts: 4, moves: 6}, {calls: 9}, {calls: 200}, {calls: 20, restarts: 20, moves: 20}} {
			d := replay(t, seed, dice, want, twist)
			if diff := cmp.Diff(rows(t, h.machine.store), rows(t, d.store)); diff != "" {
				t.Fatalf("seed %d %+v: rows differ (-want +got):\n%q", seed, twist, diff)
			}
		}
		audit(t, h.machine.store)
		if err := h.machine.Verify(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// A twist says how a replay differs: up to calls entries in one Apply, and in
// one of restarts and moves calls a restart and a snapshot (0: never).
type twist struct{ calls, restarts, moves int }

func replay(t *testing.T, seed uint64, dice *rand.Rand, want *history, how twist) *disk {
	t.Helper()
	d := newDisk(t)
	for from := 0; from < len(want.log); {
		to := min(len(want.log), from+1+dice.IntN(how.calls))
		// Entries that were applied before are skipped, as after a restart.
		again := max(0, from-dice.IntN(3))
		got, err := d.machine.Apply(want.log[again:to])
		if err != nil {
			t.Fatalf("seed %d %+v: %v", seed, how, err)
		}
		if diff := cmp.Diff(want.results[from:to], got[from-again:], cmpopts.IgnoreUnexported(Result{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("seed %d %+v: entries %d to %d (-want +got):\n%s", seed, how, from, to, diff)
		}
		if _, hash := d.machine.StateHash(); hash != want.hashes[to-1] {
			t.Fatalf("seed %d %+v: state hash differs at position %d", seed, how, to-1)
		}
		if how.restarts > 0 && dice.IntN(how.restarts) == 0 {
			d.restart()
		}
		if how.moves > 0 && dice.IntN(how.moves) == 0 {
			d = d.move()
		}
		from = to
	}
	d.verify("seed %d %+v", seed, how)
	return d
}
