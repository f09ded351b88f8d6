package vfs_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// After a crash at any write boundary of AtomicWrite the file holds the old
// content or the new one, and the new one once the call returned nil.
func TestAtomicWriteSurvivesCrashAtEveryBoundary(t *testing.T) {
	for _, percent := range []int{0, 50, 100} {
		mem := vfs.NewCrashableMem()
		if err := vfs.MkdirAllSync(mem, "data/conf"); err != nil {
			t.Fatal(err)
		}
		if err := vfs.AtomicWrite(mem, "data/conf/x", []byte("old content")); err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(uint64(percent), 1))
		crash := func() *vfs.MemFS {
			return mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
		}
		boundaries := 0
		watched := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			boundaries++
			if got := read(t, crash(), "data/conf/x"); got != "old content" && got != "new" {
				t.Errorf("crash before %v: got %q", op.Kind, got)
			}
			return nil
		}))
		if err := vfs.AtomicWrite(watched, "data/conf/x", []byte("new")); err != nil {
			t.Fatal(err)
		}
		if got := read(t, crash(), "data/conf/x"); got != "new" {
			t.Errorf("crash after return: got %q, want %q", got, "new")
		}
		if boundaries < 6 {
			t.Errorf("saw %d boundaries; the hook is not in the path", boundaries)
		}
	}
}

// An error at any step of AtomicWrite is returned and leaves whole content.
func TestAtomicWriteReportsEveryError(t *testing.T) {
	failed := 0
	for i := int32(0); ; i++ {
		mem := vfs.NewMem()
		if err := vfs.AtomicWrite(mem, "x", []byte("old")); err != nil {
			t.Fatal(err)
		}
		at := errorfs.OnIndex(i)
		inj := errorfs.InjectorFunc(func(op errorfs.Op) error { return at.MaybeError(op) })
		err := vfs.AtomicWrite(errorfs.Wrap(mem, inj), "x", []byte("new"))
		got := read(t, mem, "x")
		if err == nil {
			if got != "new" {
				t.Fatalf("step %d: nil error but content %q", i, got)
			}
			break
		}
		failed++
		if !errors.Is(err, errorfs.ErrInjected) {
			t.Errorf("step %d: got %v, want the injected error", i, err)
		}
		if got != "old" && got != "new" {
			t.Errorf("step %d: torn content %q", i, got)
		}
	}
	if failed < 4 {
		t.Errorf("only %d steps failed; create, write, sync, rename and directory sync must each report", failed)
	}
}

// A directory made by MkdirAllSync is there after a crash that keeps nothing unsynced.
func TestMkdirAllSyncSurvivesCrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	if err := vfs.MkdirAllSync(mem, "a/b/c"); err != nil {
		t.Fatal(err)
	}
	if _, err := mem.CrashClone(vfs.CrashCloneCfg{}).Stat("a/b/c"); err != nil {
		t.Fatalf("after crash: %v", err)
	}
	if err := vfs.MkdirAllSync(mem, "a/b/c"); err != nil {
		t.Fatalf("second call: %v", err)
	}
	plain := vfs.NewCrashableMem()
	if err := plain.MkdirAll("a/b/c", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := plain.CrashClone(vfs.CrashCloneCfg{}).Stat("a/b/c"); err == nil {
		t.Fatal("plain MkdirAll survived too: this test proves nothing")
	}
}

func TestFreeSpace(t *testing.T) {
	free, total, err := vfs.FreeSpace(t.TempDir())
	if err != nil || total == 0 || free > total {
		t.Fatalf("got free=%d total=%d err=%v", free, total, err)
	}
	if _, _, err := vfs.FreeSpace(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Fatal("no error for a directory that does not exist")
	}
}

func read(t *testing.T, fs vfs.FS, path string) string {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatalf("reading %s: %v", path, err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("reading %s: %v", path, err)
	}
	return string(b)
}
