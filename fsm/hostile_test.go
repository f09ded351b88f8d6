package fsm

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// What ValidateBatch lets pass never halts a machine: one peer must not be able to
// stop all the replicas. Random batches, and random damage to sound ones, against
// one machine whose state they make as strange as they can.
func TestAcceptedBatchesNeverHalt(t *testing.T) {
	h := newHistorian(t, 11)
	h.write(40)
	dice := rand.New(rand.NewPCG(5, 6))
	id, next := SessionID{9}, uint64(1)
	h.entry(EncodeBatch(&Batch{Session: id, Operations: []Operation{{Kind: OpOpenSession}}}))
	accepted, done := 0, 0
	for i := range 6000 {
		b := h.batch()
		if dice.IntN(2) == 0 {
			b = strangeBatch(dice)
		}
		b.Session, b.Sequence, b.Answered = id, next, next
		raw := EncodeBatch(b)
		if dice.IntN(2) == 0 {
			raw[dice.IntN(len(raw))] ^= byte(1 << dice.IntN(8))
		}
		if _, err := ValidateBatch(raw); err != nil {
			continue
		}
		accepted++
		h.advance()
		h.entry(raw) // fails the test when the machine halts
		if r := h.history.results[len(h.history.results)-1][0]; r.Code == Applied {
			done++
		}
		next++
		if i%500 == 0 {
			audit(t, h.machine.store)
		}
	}
	if err := h.machine.Verify(); err != nil {
		t.Error(err)
	}
	if accepted < 2000 || done < 100 {
		t.Errorf("only %d batches were accepted and %d applied", accepted, done)
	}
	t.Logf("%d accepted, %d applied", accepted, done)
}

// strangeBatch draws every field from its edges, whether or not it counts.
func strangeBatch(dice *rand.Rand) *Batch {
	numbers := []uint64{0, 1, 2, 1 << 32, math.MaxInt64, math.MaxUint64}
	spans := []time.Duration{0, 1, -1, time.Minute, MaxTTL, MaxTTL + 1, math.MaxInt64, math.MinInt64}
	keys := []Key{nil, {}, []byte("l1"), []byte("l2"), []byte("s1"), []byte("ka"), {0}, {0xff}, bytes.Repeat([]byte{0xff}, MaxKeySize),
		bytes.Repeat([]byte{1}, MaxKeySize+1)}
	pick := func() Key { return keys[dice.IntN(len(keys))] }
	b := &Batch{}
	for dice.IntN(3) == 0 {
		b.Guards = append(b.Guards, Guard{Kind: GuardKind(dice.IntN(9)), Key: pick(), Revision: numbers[dice.IntN(len(numbers))],
			Number: numbers[dice.IntN(len(numbers))], State: LeaseState(dice.IntN(256))})
	}
	kinds := []OperationKind{1, 2, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 24, 25, 26, 27, 30, 31, 32}
	for range dice.IntN(4) {
		op := Operation{Kind: kinds[dice.IntN(len(kinds))], Key: pick(), Value: pick(), Lease: pick(), Number: numbers[dice.IntN(len(numbers))],
			TTL: spans[dice.IntN(len(spans))], MaxTTL: spans[dice.IntN(len(spans))], State: LeaseState(dice.IntN(5)), Effect: pick(), Tally: pick()}
		for dice.IntN(2) == 0 {
			op.Numbers = append(op.Numbers, numbers[dice.IntN(len(numbers))])
			op.Groups = append(op.Groups, pick())
		}
		b.Operations = append(b.Operations, op)
	}
	return b
}

// A leader may stamp any time; the machine survives it.
func TestStrangeTimes(t *testing.T) {
	for _, at := range []LogTime{math.MinInt64, -1, 0, math.MaxInt64, LogTime(math.MaxInt64 - MaxTTL/2)} {
		r := newRig(t)
		r.now = at
		r.do(Operation{Kind: OpGrantLease, Key: []byte("l"), TTL: MaxTTL, MaxTTL: MaxTTL, State: LeaseActive},
			Operation{Kind: OpAppendVersion, Key: []byte("s"), Number: 1, TTL: MaxTTL})
		r.do(Operation{Kind: OpRenewLease, Key: []byte("l")})
		r.do(Operation{Kind: OpExpireLeases, Number: 10})
		r.do(Operation{Kind: OpRevokeLease, Key: []byte("l")})
		if err := r.machine.Verify(); err != nil {
			t.Errorf("time %d: %v", at, err)
		}
	}
}

// What a decoder allocates follows from the bytes that are there, not from the
// lengths they announce, and a byte that stands for much is counted first.
func TestHostileEncodingsStaySmall(t *testing.T) {
	u32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	nils := bytes.Repeat([]byte{0xc0}, MaxBatchSize-64)
	head := []byte{formatCommand1, 0x95, 0xc0, 0x01, 0x01, 0xc0}
	oneOperation := join(head, []byte{0x91, 0x9b, 0x01, 0xc0, 0xc0, 0xc0, 0x01})
	for name, p := range map[string][]byte{
		"four billion operations announced": join(head, []byte{0xdd}, u32(math.MaxUint32)),
		"eight million nil operations":      join(head, []byte{0xdd}, u32(uint32(len(nils))), nils),
		"eight million nil numbers":         join(oneOperation, []byte{0xdd}, u32(uint32(len(nils))), nils),
		"four gigabytes announced":          {formatCommand1, 0x95, 0xc6, 0xff, 0xff, 0xff, 0xff},
		"a deep nest":                       join([]byte{formatCommand1}, bytes.Repeat([]byte{0x91}, MaxBatchSize-1)),
		"a map":                             {formatCommand1, 0xdf, 0xff, 0xff, 0xff, 0xff},
		"an extension":                      {formatCommand1, 0xc9, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		for what, decode := range map[string]func([]byte) error{
			"DecodeBatch":   func(p []byte) error { _, err := DecodeBatch(p); return err },
			"DecodeEntry":   func(p []byte) error { _, err := DecodeEntry(p); return err },
			"ValidateBatch": func(p []byte) error { _, err := ValidateBatch(p); return err },
		} {
			// The counter is the whole process's: the least of three is ours.
			grown := uint64(math.MaxUint64)
			for range 3 {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err := decode(p)
				runtime.ReadMemStats(&after)
				if grown = min(grown, after.TotalAlloc-before.TotalAlloc); err == nil {
					t.Errorf("%s of %s: accepted", what, name)
				}
			}
			if grown > 1<<20 {
				t.Errorf("%s of %s: %d bytes allocated", what, name, grown)
			}
		}
	}
}

// A batch as large as ValidateBatch allows can be read by the machine, too.
func TestLargestBatchIsReadable(t *testing.T) {
	b := &Batch{Session: SessionID{1}, Sequence: 1}
	for range MaxGuards {
		b.Guards = append(b.Guards, Guard{Kind: GuardRecord, Key: []byte("k")})
	}
	for range MaxOperations {
		b.Operations = append(b.Operations, Operation{Kind: OpDestroyVersions, Key: []byte("s"), Numbers: make([]uint64, MaxNumbers)})
	}
	if _, err := ValidateBatch(EncodeBatch(b)); err != nil {
		t.Error(err)
	}
	b.Operations = append(b.Operations, b.Operations[0])
	raw := EncodeBatch(b)
	if _, err := ValidateBatch(raw); err == nil {
		t.Error("one operation too many was accepted")
	}
	// In the log it is a fact, and no reason to halt.
	if _, err := DecodeBatch(raw); err != nil {
		t.Error(err)
	}
}

func FuzzBatch(f *testing.F) {
	seedBatches(f, func(p []byte) { f.Add(p) })
	f.Fuzz(func(t *testing.T, p []byte) {
		_, invalid := ValidateBatch(p)
		b, err := DecodeBatch(p)
		if err != nil {
			if invalid == nil {
				t.Fatalf("accepted by ValidateBatch, but unreadable: %v", err)
			}
			return
		}
		stable(t, b, EncodeBatch, DecodeBatch)
		if invalid != nil {
			return
		}
		r := newRig(t)
		b.Session, b.Sequence = r.session, 1
		r.entry(b, b) // fails the test when the machine halts
		if err := r.machine.Verify(); err != nil {
			t.Error(err)
		}
	})
}

func FuzzEntry(f *testing.F) {
	seedBatches(f, func(p []byte) { f.Add(EncodeEntry(&Entry{Time: 7, Batches: [][]byte{p, p}})) })
	f.Fuzz(func(t *testing.T, p []byte) {
		if e, err := DecodeEntry(p); err == nil {
			stable(t, e, EncodeEntry, DecodeEntry)
		}
	})
}

func FuzzRow(f *testing.F) {
	h := newHistorian(f, 3)
	h.write(60)
	for k, v := range rows(f, h.machine.store) {
		f.Add([]byte(k), []byte(v))
	}
	f.Fuzz(func(t *testing.T, k, v []byte) {
		if checkRow(k, v) != nil {
			return
		}
		switch k[0] {
		case tableRecord:
			stableRow(t, v, encodeRecord, decodeRecord)
		case tableHead:
			stableRow(t, v, encodeHead, decodeHead)
		case tableVersion:
			stableRow(t, v, encodeVersion, decodeVersion)
		case tableLease:
			stableRow(t, v, encodeLease, decodeLease)
		case tableQueue:
			stableRow(t, v, encodePending, decodePending)
		case tableSession:
			stableRow(t, v, encodeSession, decodeSession)
		case tableAnswers:
			stableRow(t, v, encodeAnswers, func(p []byte) (*answers, error) { return decodeAnswers(1, p) })
		}
	})
}

func FuzzMetaRow(f *testing.F) {
	f.Add(encodeMeta(&metaRow{Applied: 1, Term: 2, Time: 3, Level: 1, Sum: sum{1, 2, 3, 4}}))
	f.Fuzz(func(t *testing.T, p []byte) {
		if _, err := decodeMeta(p); err == nil {
			stableRow(t, p, encodeMeta, decodeMeta)
		}
	})
}

// Whatever a stream holds, it is refused, or it becomes a state that adds up and
// that entries can be applied to.
func FuzzSnapshot(f *testing.F) {
	h := newHistorian(f, 3)
	f.Add((&disk{t: f, machine: h.machine}).image())
	h.write(20)
	f.Add((&disk{t: f, machine: h.machine}).image())
	f.Fuzz(func(t *testing.T, p []byte) {
		r := newRig(t)
		_, before := r.machine.StateHash()
		if err := r.machine.Restore(bytes.NewReader(p)); err != nil {
			if _, after := r.machine.StateHash(); before != after {
				t.Error("a refused snapshot changed the state")
			}
			return
		}
		if err := r.machine.Verify(); err != nil {
			t.Error(err)
		}
	})
}

func seedBatches(f *testing.F, add func([]byte)) {
	h := newHistorian(f, 3)
	h.write(30)
	for _, raw := range h.sent {
		add(raw)
	}
}

// stable demands that decode and encode are each other's inverse once a value
// has been through encode.
func stable[T any](t *testing.T, v *T, encode func(*T) []byte, decode func([]byte) (*T, error)) {
	t.Helper()
	first := encode(v)
	again, err := decode(first)
	if err != nil {
		t.Fatalf("%+v: %v", v, err)
	}
	if second := encode(again); !bytes.Equal(first, second) {
		t.Fatalf("%+v: encodes as %x, then as %x", v, first, second)
	}
}

func stableRow[T any](t *testing.T, p []byte, encode func(*T) []byte, decode func([]byte) (*T, error)) {
	t.Helper()
	v, err := decode(p)
	if err != nil {
		t.Fatal(err)
	}
	stable(t, v, encode, decode)
}
