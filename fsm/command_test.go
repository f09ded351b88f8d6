package fsm

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// A batch survives its encoding whole, and trailing bytes are refused.
func TestBatchRoundTrip(t *testing.T) {
	want := &Batch{
		Session: SessionID{1, 2, 3}, Sequence: 7, Answered: 5,
		Guards: []Guard{{Kind: GuardHead, Key: []byte("k"), Number: 3}},
		Operations: []Operation{
			{Kind: OpAppendVersion, Key: []byte("k"), Value: []byte{0, 255}, Number: 4, TTL: time.Minute},
			{Kind: OpGrantLease, Key: []byte("l"), Groups: []Key{[]byte("g")}, Effect: []byte("e"), Tally: []byte("t"), State: LeasePending},
		},
	}
	p := EncodeBatch(want)
	got, err := DecodeBatch(p)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("batch changed in encoding (-want +got):\n%s", d)
	}
	if _, err := DecodeBatch(append(p, 0)); err == nil {
		t.Error("a trailing byte was accepted")
	}
	if _, err := DecodeBatch(p[:len(p)-1]); err == nil {
		t.Error("a truncated batch was accepted")
	}
	t.Logf("encoded size: %d bytes", len(p))
}

func BenchmarkBatchCodec(b *testing.B) {
	batch := &Batch{Session: SessionID{1}, Sequence: 7, Answered: 5,
		Guards:     []Guard{{Kind: GuardHead, Key: make([]byte, 60), Number: 3}},
		Operations: []Operation{{Kind: OpAppendVersion, Key: make([]byte, 60), Value: make([]byte, 300), Number: 4}}}
	p := EncodeBatch(batch)
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			EncodeBatch(batch)
		}
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := DecodeBatch(p); err != nil {
				b.Fatal(err)
			}
		}
	})
}
