package fsm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

var writeMuseum = flag.Bool("write-museum", false, "write the museum's pieces of the current format; only for a new format, under a new name")

// The museum holds what earlier releases wrote: a log, the state directory and the
// snapshot that came of it, and the hash they must still have. Every release
// opens them.
const museum = "testdata/museum"

func TestMuseum(t *testing.T) {
	if *writeMuseum {
		writePieces(t, filepath.Join(museum, "v1"))
	}
	pieces, err := filepath.Glob(filepath.Join(museum, "*.txtar"))
	if err != nil || len(pieces) == 0 {
		t.Fatalf("the museum is empty: %v", err)
	}
	for _, piece := range pieces {
		base := strings.TrimSuffix(piece, ".txtar")
		t.Run(filepath.Base(base), func(t *testing.T) {
			log, index, hash := readLog(t, piece)
			t.Run("log", func(t *testing.T) {
				d := newDisk(t)
				if _, err := d.machine.Apply(log); err != nil {
					t.Fatal(err)
				}
				same(t, d.machine, index, hash)
			})
			t.Run("snapshot", func(t *testing.T) {
				p, err := os.ReadFile(base + ".image")
				if err != nil {
					t.Fatal(err)
				}
				d := newDisk(t)
				if err := d.machine.Restore(bytes.NewReader(p)); err != nil {
					t.Fatal(err)
				}
				same(t, d.machine, index, hash)
				if !bytes.Equal(d.image(), p) {
					t.Error("the state is written differently today")
				}
			})
			t.Run("state", func(t *testing.T) {
				fs := vfs.NewMem()
				unpack(t, fs, base+".tar.gz")
				store, err := state.Open("state", fs, state.Options{})
				if err != nil {
					t.Fatal(err)
				}
				m, err := Open(store)
				if err != nil {
					t.Fatal(err)
				}
				same(t, m, index, hash)
				if err := errors.Join(m.Close(), store.Close()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func same(t *testing.T, m *Machine, index uint64, hash string) {
	t.Helper()
	i, h := m.StateHash()
	if got := hex.EncodeToString(h[:]); i != index || got != hash {
		t.Errorf("state is %s at %d, want %s at %d", got, i, hash, index)
	}
	if err := m.Verify(); err != nil {
		t.Error(err)
	}
}

func readLog(t *testing.T, path string) (log []LogEntry, index uint64, hash string) {
	t.Helper()
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		text := strings.TrimSpace(string(f.Data))
		if f.Name == "hash" {
			if _, err := fmt.Sscanf(text, "%d %s", &index, &hash); err != nil {
				t.Fatal(err)
			}
			continue
		}
		e := LogEntry{}
		if _, err := fmt.Sscanf(f.Name, "entry/%d/%d", &e.Index, &e.Term); err != nil {
			t.Fatal(err)
		}
		if e.Data, err = hex.DecodeString(strings.ReplaceAll(text, "\n", "")); err != nil {
			t.Fatal(err)
		}
		log = append(log, e)
	}
	return log, index, hash
}

// writePieces writes the current format's pieces: base.txtar, .image, .tar.gz.
func writePieces(t *testing.T, base string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		t.Fatal(err)
	}
	h := newHistorian(t, 25)
	h.write(45)
	d := newDisk(t)
	if _, err := d.machine.Apply(h.history.log); err != nil {
		t.Fatal(err)
	}
	image := d.image()
	if err := d.machine.Flush(); err != nil {
		t.Fatal(err)
	}
	index, hash := d.machine.StateHash()
	d.close()
	a := &txtar.Archive{Comment: []byte("The log of the museum piece beside it, and the state hash after it.\n"),
		Files: []txtar.File{{Name: "hash", Data: fmt.Appendf(nil, "%d %x\n", index, hash)}}}
	for _, e := range h.history.log {
		a.Files = append(a.Files, txtar.File{Name: fmt.Sprintf("entry/%d/%d", e.Index, e.Term), Data: fmt.Appendf(nil, "%x\n", e.Data)})
	}
	for name, data := range map[string][]byte{base + ".txtar": txtar.Format(a), base + ".image": image, base + ".tar.gz": pack(t, d.fs)} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	d.open() // for the cleanup
}

func pack(t *testing.T, fs vfs.FS) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, path := range files(t, fs, "state") {
		p := slurp(t, fs, path)
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o600, Size: int64(len(p))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(t *testing.T, fs vfs.FS, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(z)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := vfs.MkdirAllSync(fs, fs.PathDir(h.Name)); err != nil {
			t.Fatal(err)
		}
		if err := vfs.AtomicWrite(fs, h.Name, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
