package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func entry(index, term uint64) *raft.Log {
	return &raft.Log{
		Index: index, Term: term, Type: raft.LogCommand,
		Data:       fmt.Appendf(nil, "the content of entry %d", index),
		Extensions: []byte("ext"),
		AppendedAt: time.Unix(1_700_000_000+int64(index), 123456789).UTC(),
	}
}

// A sealed entry opens to itself; the input of sealEntry is left alone.
func TestSealOpen(t *testing.T) {
	for _, e := range []*raft.Log{entry(5, 2), {Index: 1}, {Index: 9, Term: 1 << 63, Type: raft.LogNoop, Data: []byte{}}} {
		before := cloneEntry(*e)
		sealed := sealEntry(e)
		if !reflect.DeepEqual(*e, before) {
			t.Fatalf("sealing changed its input: %+v", e)
		}
		if rot := openEntry(e.Index, sealed); rot != nil {
			t.Fatal(rot)
		}
		if !reflect.DeepEqual(*sealed, before) {
			t.Fatalf("got %+v, want %+v", *sealed, before)
		}
	}
}

// A change to any field, and any flipped bit of data, extensions or trailer, is
// found, and the term is reported exactly when it can still be believed.
func TestEveryChangeIsFound(t *testing.T) {
	changes := map[string]func(*raft.Log){
		"index":       func(e *raft.Log) { e.Index++ },
		"term":        func(e *raft.Log) { e.Term++ },
		"type":        func(e *raft.Log) { e.Type = raft.LogNoop },
		"appended at": func(e *raft.Log) { e.AppendedAt = e.AppendedAt.Add(1) },
		"moved byte": func(e *raft.Log) { // from the extensions to the data: the concatenation is the same
			e.Data = append([]byte{e.Extensions[2]}, e.Data...)
			e.Extensions = append([]byte("ex"), e.Extensions[3:]...)
		},
		"no trailer": func(e *raft.Log) { e.Extensions = nil },
	}
	for name, change := range changes {
		e := sealEntry(entry(5, 2))
		change(e)
		if rot := openEntry(5, e); rot == nil || !errors.Is(rot, ErrRotten) {
			t.Errorf("%s: got %v", name, rot)
		}
	}
	sealed := sealEntry(entry(5, 2))
	for _, field := range []func(*raft.Log) []byte{
		func(e *raft.Log) []byte { return e.Data },
		func(e *raft.Log) []byte { return e.Extensions },
	} {
		for i := range field(sealed) {
			for bit := range 8 {
				e := cloneEntry(*sealed)
				field(&e)[i] ^= 1 << bit
				rot := openEntry(5, &e)
				if rot == nil {
					t.Fatalf("byte %d bit %d passed", i, bit)
				}
				if rot.termKnown && rot.term != 2 {
					t.Fatalf("byte %d bit %d: reported term %d", i, bit, rot.term)
				}
			}
		}
	}
	if rot := openEntry(6, sealEntry(entry(5, 2))); rot == nil || rot.termKnown {
		t.Errorf("an entry under another's index: %v", rot)
	}
}

// No bytes make openEntry panic, and what it accepts is exactly what sealEntry makes.
func FuzzOpenEntry(f *testing.F) {
	s := sealEntry(entry(5, 2))
	f.Add(uint64(5), s.Index, s.Term, byte(s.Type), s.Data, s.Extensions, s.AppendedAt.UnixNano(), false)
	f.Add(uint64(0), uint64(0), uint64(0), byte(0), []byte{}, []byte{entryFormat}, int64(0), true)
	f.Fuzz(func(t *testing.T, at, index, term uint64, typ byte, data, ext []byte, nanos int64, seal bool) {
		e := &raft.Log{Index: index, Term: term, Type: raft.LogType(typ), Data: data, Extensions: ext, AppendedAt: time.Unix(0, nanos)}
		if seal {
			e = sealEntry(e)
		}
		stored := cloneEntry(*e)
		opened := cloneEntry(*e)
		if rot := openEntry(at, &opened); rot != nil {
			if seal && at == index {
				t.Fatalf("a sealed entry was refused: %v", rot)
			}
			return
		}
		again := sealEntry(&opened)
		if at != index || !bytes.Equal(again.Extensions, stored.Extensions) || !bytes.Equal(again.Data, stored.Data) {
			t.Fatal("accepted an entry that sealing does not produce")
		}
	})
}

// No bytes make openValue or decodeVote panic, and what is accepted is canonical.
func FuzzOpenValue(f *testing.F) {
	f.Add([]byte("LastVote"), sealValue([]byte("LastVote"), vote{term: 3, candidate: []byte("n1")}.encode()), false)
	f.Add([]byte("k"), []byte("v"), true)
	f.Fuzz(func(t *testing.T, key, stored []byte, seal bool) {
		if seal {
			stored = sealValue(key, stored)
		}
		val, err := openValue(key, stored)
		if err != nil {
			if seal || !errors.Is(err, ErrRotten) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if !bytes.Equal(sealValue(key, val), stored) {
			t.Fatal("accepted a value that sealing does not produce")
		}
		if v, err := decodeVote(val); err == nil && !bytes.Equal(v.encode(), val) {
			t.Fatal("a vote does not encode to what it was decoded from")
		}
	})
}

// The price of the checksum, to be held against an fsync (0.1 to 10 ms).
func BenchmarkSealEntry(b *testing.B) {
	for _, size := range []int{256, 100 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			e := &raft.Log{Index: 5, Term: 2, Data: make([]byte, size)}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				sealEntry(e)
			}
		})
	}
}
