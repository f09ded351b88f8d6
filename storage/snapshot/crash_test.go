package snapshot

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

var sizes = map[uint64]int{10: frameSize + 5, 20: 2*frameSize + 9, 30: 40, 40: frameSize}

// checkWhole opens the store as a restarted node would and demands that every
// listed snapshot is whole and nothing is damaged.
func checkWhole(t *testing.T, fs vfs.FS, when string) []uint64 {
	t.Helper()
	s := open(t, fs, 2)
	metas, err := s.List()
	if err != nil {
		t.Fatalf("%s: List: %v", when, err)
	}
	var got []uint64
	for _, m := range metas {
		if _, b, err := content(s, m.ID); err != nil || !bytes.Equal(b, body(m.Index, sizes[m.Index])) {
			t.Fatalf("%s: snapshot %d: %d bytes, %v", when, m.Index, len(b), err)
		}
		got = append(got, m.Index)
	}
	if d := s.Damaged(); len(d) != 0 {
		t.Fatalf("%s: damaged %v", when, d)
	}
	return got
}

// A power cut before any write of a scripted run (four snapshots, two kept)
// leaves the newest acknowledged snapshot whole, whichever unsynced bytes survive.
func TestCrashAtEveryWriteBoundary(t *testing.T) {
	for _, percent := range []int{0, 30, 70, 100} {
		mem := vfs.NewCrashableMem()
		rng := rand.New(rand.NewPCG(uint64(percent), 2))
		var acked uint64
		boundaries := 0
		crash := func() {
			clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
			got := checkWhole(t, clone, "crash")
			if acked > 0 && (len(got) == 0 || got[0] < acked) {
				t.Fatalf("percent %d boundary %d: listed %v, acknowledged %d", percent, boundaries, got, acked)
			}
		}
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				boundaries++
				crash()
			}
			return nil
		}))
		s := open(t, fs, 2)
		for _, index := range []uint64{10, 20, 30, 40} {
			mustTake(t, s, index, body(index, sizes[index]))
			acked = index
			crash()
		}
		if boundaries < 40 {
			t.Errorf("percent %d: only %d boundaries; the hook is not in the path", percent, boundaries)
		}
		if got := checkWhole(t, mem, "end"); !slices.Equal(got, []uint64{40, 30}) {
			t.Errorf("percent %d: at the end %v", percent, got)
		}
	}
}

// An error injected into any write: what was acknowledged is durable, what was
// not is never half there, and the older snapshots stay.
func TestInjectedErrorAtEveryWrite(t *testing.T) {
	failures := 0
	for target := 0; ; target++ {
		mem := vfs.NewCrashableMem()
		mustTake(t, open(t, mem, 2), 10, body(10, sizes[10]))
		seen, armed := 0, false
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if !armed || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			seen++
			if seen == target+1 {
				return errorfs.ErrInjected
			}
			return nil
		}))
		s := open(t, fs, 2)
		armed = true
		_, err := take(s, 20, body(20, sizes[20]))
		armed = false
		lost := checkWhole(t, mem.CrashClone(vfs.CrashCloneCfg{}), "crash after error")
		kept := checkWhole(t, mem, "after error")
		if err == nil && lost[0] != 20 {
			t.Fatalf("write %d: acknowledged, but after a crash %v", target, lost)
		}
		if lost[len(lost)-1] != 10 || kept[len(kept)-1] != 10 {
			t.Fatalf("write %d: the older snapshot is gone: %v, %v", target, lost, kept)
		}
		if seen <= target {
			break
		}
		if err != nil {
			failures++
			if !errors.Is(err, errorfs.ErrInjected) {
				t.Errorf("write %d: got %v", target, err)
			}
		}
		// The store itself goes on.
		if id := mustTake(t, s, 30, body(30, sizes[30])); id == "" {
			t.Error("no id")
		}
	}
	if failures < 7 {
		t.Errorf("only %d writes failed; create, each frame, trailer, sync, rename and directory sync must each report", failures)
	}
}
