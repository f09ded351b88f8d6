package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// rig drives a machine the way a log would.
type rig struct {
	t       testing.TB
	machine *Machine
	index   uint64
	now     LogTime
	session SessionID
	next    uint64
}

func newRig(t testing.TB) *rig {
	t.Helper()
	store, err := state.Open("state", vfs.NewMem(), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return newRigOn(t, store)
}

func newRigOn(t testing.TB, store *state.Store) *rig {
	t.Helper()
	m, err := Open(store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &rig{t: t, machine: m, now: LogTime(time.Hour), session: SessionID{1}, next: 1}
	r.entry(&Batch{Session: r.session, Operations: []Operation{{Kind: OpOpenSession}}})
	return r
}

// entry applies one entry with the given batches.
func (r *rig) entry(batches ...*Batch) []Result {
	r.t.Helper()
	r.index++
	e := &Entry{Time: r.now}
	for _, b := range batches {
		e.Batches = append(e.Batches, EncodeBatch(b))
	}
	results, err := r.machine.Apply([]LogEntry{{Index: r.index, Term: 1, Data: EncodeEntry(e)}})
	if err != nil {
		r.t.Fatal(err)
	}
	return results[0]
}

func (r *rig) batch(guards []Guard, ops ...Operation) *Batch {
	b := &Batch{Session: r.session, Sequence: r.next, Answered: r.next, Guards: guards, Operations: ops}
	r.next++
	return b
}

func (r *rig) do(ops ...Operation) Result {
	r.t.Helper()
	return r.entry(r.batch(nil, ops...))[0]
}

func (r *rig) view() *View {
	r.t.Helper()
	v, err := r.machine.View()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := v.Close(); err != nil {
			r.t.Error(err)
		}
	})
	return v
}

// A batch is all or nothing: a refused last operation undoes the first.
func TestBatchIsAtomic(t *testing.T) {
	r := newRig(t)
	got := r.do(Operation{Kind: OpPutRecord, Key: []byte("ka"), Value: []byte("1")},
		Operation{Kind: OpRenewLease, Key: []byte("none"), TTL: time.Minute})
	if got.Code != Refused || got.Reason != RefusedLeaseUnknown {
		t.Fatalf("got %+v, want a refusal", got)
	}
	rec, err := r.view().Record([]byte("ka"))
	if err != nil || rec != nil {
		t.Errorf("record is there after a refused batch: %v %v", rec, err)
	}
	if err := r.machine.Verify(); err != nil {
		t.Error(err)
	}
}

// The same batch twice is applied once and answered alike.
func TestExactlyOnce(t *testing.T) {
	r := newRig(t)
	b := r.batch([]Guard{{Kind: GuardHead, Key: []byte("k")}}, Operation{Kind: OpAppendVersion, Key: []byte("k"), Number: 1, Value: []byte("v")})
	first := r.entry(b, b)
	again := r.entry(b)
	if first[0].Code != Applied || first[1] != first[0] || again[0] != first[0] {
		t.Errorf("answers differ: %+v %+v %+v", first[0], first[1], again[0])
	}
	h, err := r.view().Head([]byte("k"))
	if err != nil || h.Current != 1 {
		t.Errorf("current version is %+v %v, want 1", h, err)
	}
}

// When a lease expires, what it owns is gone at once and its rows soon after.
func TestLeaseCascade(t *testing.T) {
	r := newRig(t)
	r.do(Operation{Kind: OpGrantLease, Key: []byte("lp"), TTL: time.Minute, State: LeaseActive})
	r.do(Operation{Kind: OpGrantLease, Key: []byte("lc"), Lease: []byte("lp"), TTL: time.Hour, State: LeaseActive},
		Operation{Kind: OpPutRecord, Key: []byte("rec"), Lease: []byte("lc"), Value: []byte("v")})
	if rec, err := r.view().Record([]byte("rec")); err != nil || rec == nil {
		t.Fatalf("record is not there: %v", err)
	}
	r.now = r.now.Add(time.Minute)
	r.entry() // time passes, nobody expired anything yet
	if rec, err := r.view().Record([]byte("rec")); err != nil || rec != nil {
		t.Errorf("record of an expired owner is visible: %v %v", rec, err)
	}
	r.do(Operation{Kind: OpExpireLeases, Number: 100})
	v := r.view()
	for _, id := range []string{"lp", "lc"} {
		if l, _, err := v.Lease([]byte(id)); err != nil || l != nil {
			t.Errorf("lease %s is still there: %+v %v", id, l, err)
		}
	}
	if _, ok := r.machine.NextExpiry(); ok || r.machine.Unfinished() {
		t.Error("expiry or queue is not empty")
	}
	if err := r.machine.Verify(); err != nil {
		t.Error(err)
	}
}

// A replica that restores a snapshot equals one that applied the log.
func TestSnapshotRestore(t *testing.T) {
	r := newRig(t)
	for i := range byte(50) {
		r.do(Operation{Kind: OpPutRecord, Key: []byte{'k', i}, Value: []byte{i}})
	}
	s, err := r.machine.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := s.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o := newRig(t)
	if err := o.machine.Restore(bytes.NewReader(buf.Bytes())); err != nil {
		t.Fatal(err)
	}
	i1, h1 := r.machine.StateHash()
	i2, h2 := o.machine.StateHash()
	if i1 != i2 || h1 != h2 {
		t.Errorf("restored state differs: %d %x, want %d %x", i2, h2, i1, h1)
	}
	o.index, o.next = i2, r.next
	if got, want := o.do(Operation{Kind: OpDeleteRecord, Key: []byte{'k', 1}}), r.do(Operation{Kind: OpDeleteRecord, Key: []byte{'k', 1}}); got != want {
		t.Errorf("after restore: got %+v, want %+v", got, want)
	}
	for cut := range buf.Len() {
		if err := o.machine.Restore(bytes.NewReader(buf.Bytes()[:cut])); err == nil {
			t.Fatalf("a snapshot cut at byte %d was restored", cut)
		}
	}
	if err := o.machine.Verify(); err != nil {
		t.Error(err)
	}
}

// BenchmarkApplyPut applies what a put of core is made of: guards on the
// settings, the head and the receipt, all of them blinded names; a version; and a
// receipt that a lease owns. 10,000 secrets are written over and over.
func BenchmarkApplyPut(b *testing.B) {
	for _, receipts := range []bool{true, false} {
		b.Run(fmt.Sprintf("receipts=%v", receipts), func(b *testing.B) {
			store, err := state.Open(b.TempDir(), vfs.Default, state.Options{})
			if err != nil {
				b.Fatal(err)
			}
			r := newRigOn(b, store)
			lease := Key("e0123456789abcdef")
			r.entry(r.batch(nil, Operation{Kind: OpGrantLease, Key: lease, TTL: time.Hour, State: LeaseActive}))
			dice := rand.New(rand.NewPCG(1, 2))
			name := func(space byte, segments ...uint64) Key {
				k := Key{space}
				for _, n := range segments {
					sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, n))
					k = append(k, sum[:16]...)
				}
				return k
			}
			numbers := map[uint64]uint64{}
			value, answer := make([]byte, 300), make([]byte, 90)
			for b.Loop() {
				seen := map[uint64]bool{}
				var batches []*Batch
				for len(batches) < 100 {
					secret := dice.Uint64N(10_000)
					if seen[secret] {
						continue
					}
					seen[secret] = true
					k := name('s', 0, secret%200, secret)
					guards := []Guard{{Kind: GuardRecord, Key: k}, {Kind: GuardHead, Key: k, Number: numbers[secret]}}
					numbers[secret]++
					operations := []Operation{{Kind: OpAppendVersion, Key: k, Number: numbers[secret], Value: value}}
					if receipts {
						receipt := name('e', dice.Uint64())
						guards = append(guards, Guard{Kind: GuardRecord, Key: receipt},
							Guard{Kind: GuardLease, Key: lease, Number: 1, State: LeaseActive})
						operations = append(operations, Operation{Kind: OpPutRecord, Key: receipt, Value: answer, Lease: lease})
					}
					batches = append(batches, r.batch(guards, operations...))
				}
				for _, result := range r.entry(batches...) {
					if result.Code != Applied {
						b.Fatalf("%+v", result)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*100), "µs/put")
		})
	}
}
