package snapshot

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"testing"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

var update = flag.Bool("update", false, "write the museum piece of the current format")

const museumPiece = "testdata/museum/v1.snap"

// The snapshot of format 1 is read for ever, and writing it today gives the same bytes.
func TestMuseum(t *testing.T) {
	id, file := sample(t, 4711, 1000)
	if *update {
		if err := os.MkdirAll("testdata/museum", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(museumPiece, file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.ReadFile(museumPiece)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := place(t, id, old)
	meta, got, err := content(s, id)
	if err != nil {
		t.Fatal(err)
	}
	if meta.Index != 4711 || meta.Term != 7 || meta.ConfigurationIndex != 2 || !slices.Equal(meta.Configuration.Servers, members.Servers) {
		t.Errorf("metadata: got %+v", meta)
	}
	if !bytes.Equal(got, body(4711, 1000)) {
		t.Error("the content differs")
	}
	if !bytes.Equal(old, file) {
		t.Error("format 1 is no longer written as it was: a change needs a new format number")
	}
}

// No input makes the head parser panic or allocate without bound, and what it
// accepts is written back byte for byte or reads back equal.
func FuzzReadHead(f *testing.F) {
	for _, m := range []metadata{{}, {Version: 1, Index: 1 << 63, Term: 3, Servers: []server{{ID: "a", Address: "b"}}}} {
		head, err := encodeHead(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(head, false)
		f.Add(head[:len(head)-hashSize], true)
	}
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal { // let the input past the hash, to the decoder
			b = slices.Clone(b)
			b = append(b, make([]byte, hashSize)...)
			rehash(b)
		}
		m, head, err := readHead(bytes.NewReader(b))
		if err != nil {
			return
		}
		if !bytes.Equal(head, b[:len(head)]) {
			t.Fatal("the head returned is not the head read")
		}
		again, err := encodeHead(m)
		if err != nil {
			t.Fatalf("accepted but cannot be written: %v", err)
		}
		m2, _, err := readHead(bytes.NewReader(again))
		if err != nil || m2.id() != m.id() || !slices.Equal(m2.Servers, m.Servers) {
			t.Fatalf("read back %+v, %v; want %+v", m2, err, m)
		}
	})
}

// No file makes Open or the stream panic, and only an intact one reaches EOF.
func FuzzRead(f *testing.F) {
	id, file := sample(f, 5, 100)
	f.Add(file, uint16(0), byte(0))
	f.Add(file, uint16(200), byte(1))
	f.Add(file[:100], uint16(3), byte(9))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, flip byte) {
		b = slices.Clone(b)
		if len(b) > 0 {
			b[int(at)%len(b)] ^= flip
		}
		fs := vfs.NewMem()
		s := open(t, fs, 3)
		if err := vfs.AtomicWrite(fs, fs.PathJoin(testDir, id+fileSuffix), b); err != nil {
			t.Fatal(err)
		}
		if _, _, err := content(s, id); err == nil && !bytes.Equal(b, file) {
			t.Fatal("EOF without error on a changed file")
		}
	})
}
