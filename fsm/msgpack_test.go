package fsm

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/go-msgpack/v2/codec"
)

// The commands as go-msgpack sees them.
type (
	packedBatch struct {
		//lint:ignore U1000 go-msgpack reads its tag
		_struct struct{} `codec:",toarray"`

		Session            SessionID
		Sequence, Answered uint64
		Guards             []packedGuard
		Operations         []packedOperation
	}
	packedGuard struct {
		//lint:ignore U1000 go-msgpack reads its tag
		_struct struct{} `codec:",toarray"`

		Kind             GuardKind
		Key              []byte
		Revision, Number uint64
		State            LeaseState
	}
	packedOperation struct {
		//lint:ignore U1000 go-msgpack reads its tag
		_struct struct{} `codec:",toarray"`

		Kind              OperationKind
		Key, Value, Lease []byte
		Number            uint64
		Numbers           []uint64
		TTL, MaxTTL       time.Duration
		Groups            [][]byte
		State             LeaseState
		Effect, Tally     []byte
	}
	packedEntry struct {
		//lint:ignore U1000 go-msgpack reads its tag
		_struct struct{} `codec:",toarray"`

		Time    LogTime
		Batches [][]byte
	}
)

func packed(t *testing.T, v any) []byte {
	t.Helper()
	out := bytes.NewBuffer([]byte{formatCommand1})
	if err := codec.NewEncoder(out, &codec.MsgpackHandle{WriteExt: true}).Encode(v); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func packedOf(b *Batch) *packedBatch {
	p := &packedBatch{Session: b.Session, Sequence: b.Sequence, Answered: b.Answered}
	for _, g := range b.Guards {
		p.Guards = append(p.Guards, packedGuard{Kind: g.Kind, Key: g.Key, Revision: g.Revision, Number: g.Number, State: g.State})
	}
	for _, o := range b.Operations {
		p.Operations = append(p.Operations, packedOperation{Kind: o.Kind, Key: o.Key, Value: o.Value, Lease: o.Lease, Number: o.Number,
			Numbers: o.Numbers, TTL: o.TTL, MaxTTL: o.MaxTTL, Groups: o.Groups, State: o.State, Effect: o.Effect, Tally: o.Tally})
	}
	return p
}

// withoutEmpty is b as it comes back: empty lists are nil.
func withoutEmpty(b *Batch) *Batch {
	c := *b
	c.Operations = slices.Clone(b.Operations)
	for i := range c.Operations {
		if len(c.Operations[i].Numbers) == 0 {
			c.Operations[i].Numbers = nil
		}
	}
	return &c
}

// The encoding is msgpack, byte for byte as go-msgpack writes it, which wrote
// the first logs; and what it wrote is read back as it was.
func TestCommandsAreMsgpack(t *testing.T) {
	h := newHistorian(t, 7)
	dice := h.dice
	for range 2000 {
		b := strangeBatch(dice)
		b.Sequence, b.Answered = dice.Uint64()>>dice.IntN(64), dice.Uint64()>>dice.IntN(64)
		for i := range b.Session {
			b.Session[i] = byte(dice.Uint32())
		}
		for i := range b.Operations {
			b.Operations[i].TTL = time.Duration(int64(dice.Uint64()) >> dice.IntN(64))
		}
		if dice.IntN(50) == 0 {
			b.Operations = append(b.Operations, Operation{Kind: OpPutRecord, Value: make([]byte, 1<<(4+dice.IntN(14))), Numbers: make([]uint64, dice.IntN(300))})
		}
		want, got := packed(t, packedOf(b)), EncodeBatch(b)
		if !bytes.Equal(got, want) {
			t.Fatalf("%+v:\n got %x\nwant %x", b, got, want)
		}
		back, err := DecodeBatch(got)
		if err != nil {
			t.Fatal(err)
		}
		// cmp walks over byte strings one by one; go-msgpack's view is as good.
		if !bytes.Equal(EncodeBatch(back), got) && !bytes.Equal(packed(t, packedOf(back)), packed(t, packedOf(withoutEmpty(b)))) {
			t.Fatalf("batch changed in encoding:\nwant %+v\n got %+v", b, back)
		}
	}
	for _, e := range []Entry{{}, {Time: -1}, {Time: math.MaxInt64, Batches: [][]byte{}}, {Time: 1 << 40, Batches: [][]byte{nil, {}, {1}}},
		{Batches: make([][]byte, 15)}, {Batches: make([][]byte, 16)}, {Batches: make([][]byte, maxBatchesPerEntry)}} {
		want, got := packed(t, &packedEntry{Time: e.Time, Batches: e.Batches}), EncodeEntry(&e)
		if !bytes.Equal(got, want) {
			t.Fatalf("entry: got %x, want %x", got[:8], want[:8])
		}
		back, err := DecodeEntry(got)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(&e, back, cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("entry changed in encoding (-want +got):\n%s", d)
		}
	}
}

// Whatever is read is sound msgpack that says the same to go-msgpack; nothing
// makes the reader panic or build more than is there.
func FuzzDecodeBatch(f *testing.F) {
	f.Add(EncodeBatch(&Batch{Session: SessionID{1}, Sequence: 300, Guards: []Guard{{Kind: GuardHead, Key: []byte("k")}},
		Operations: []Operation{{Kind: OpGrantLease, Key: []byte("l"), Groups: []Key{{1}}, TTL: -5, Numbers: []uint64{1 << 40}}}}))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := DecodeBatch(p)
		if err != nil {
			return
		}
		var theirs packedBatch
		if err := codec.NewDecoderBytes(p[1:], &codec.MsgpackHandle{WriteExt: true}).Decode(&theirs); err != nil {
			t.Fatalf("go-msgpack refuses what we read: %v", err)
		}
		if d := cmp.Diff(packedOf(b), &theirs, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(packedBatch{}, packedGuard{}, packedOperation{})); d != "" {
			t.Fatalf("read otherwise than go-msgpack does (-ours +theirs):\n%s", d)
		}
		if again, err := DecodeBatch(EncodeBatch(b)); err != nil || !cmp.Equal(b, again, cmpopts.EquateEmpty()) {
			t.Fatalf("changed in encoding: %v", err)
		}
	})
}
