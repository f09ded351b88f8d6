package fsm

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// fill applies n secrets of 300 sealed bytes each.
func fill(tb testing.TB, m *Machine, n int) {
	tb.Helper()
	id := SessionID{1}
	r := &rig{t: tb, machine: m, session: id, next: 1}
	r.entry(&Batch{Session: id, Operations: []Operation{{Kind: OpOpenSession}}})
	for done := 0; done < n; {
		var batches []*Batch
		for ; len(batches) < 500 && done < n; done++ {
			k := binary.BigEndian.AppendUint64([]byte("kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"), uint64(done)*0x9e3779b97f4a7c15)
			batches = append(batches, r.batch(nil, Operation{Kind: OpAppendVersion, Key: k, Number: 1, Value: make([]byte, 300)}))
		}
		r.entry(batches...)
	}
}

// BenchmarkOpen opens a state of 100,000 secrets, closed properly
// and as a crash leaves it.
func BenchmarkOpen(b *testing.B) {
	for _, how := range []string{"closed", "crashed"} {
		b.Run(how, func(b *testing.B) {
			mem := vfs.NewCrashableMem()
			store, m := openBench(b, mem)
			fill(b, m, 100_000)
			if how == "crashed" {
				mem = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
			}
			closeBench(b, store, m)
			for b.Loop() {
				store, m := openBench(b, mem)
				b.StopTimer()
				closeBench(b, store, m)
				b.StartTimer()
			}
		})
	}
}

func openBench(b *testing.B, fs vfs.FS) (*state.Store, *Machine) {
	store, err := state.Open("state", fs, state.Options{})
	if err != nil {
		b.Fatal(err)
	}
	m, err := Open(store)
	if err != nil {
		b.Fatal(err)
	}
	return store, m
}

func closeBench(b *testing.B, store *state.Store, m *Machine) {
	if err := m.Close(); err != nil {
		b.Fatal(err)
	}
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
}
