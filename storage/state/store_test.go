package state

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

var small = Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10}

func mustOpen(t *testing.T, fs vfs.FS) *Store {
	t.Helper()
	s, err := Open("dir/state", fs, small)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Store, k, v string) {
	t.Helper()
	x, err := s.Begin()
	if err == nil {
		err = errors.Join(x.Set([]byte(k), []byte(v)), x.Commit())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func value(t *testing.T, r Reader, k string) string {
	t.Helper()
	v, ok, err := r.Get([]byte(k))
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return "absent"
	}
	return string(v)
}

func close1(t *testing.T, cs ...interface{ Close() error }) {
	t.Helper()
	for _, c := range cs {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The directory of a replaced map goes with the last view on it, and what is left
// of a replacement that failed goes at once. (What a replacement does to the
// contents: TestOrderedStore.)
func TestReplace(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, fs)
	put(t, s, "a", "old")
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	holds := func(want int) {
		t.Helper()
		if names, err := fs.List("dir/state"); err != nil || len(names) != want {
			t.Errorf("directory holds %v %v, want the file and %d maps", names, err, want-1)
		}
	}
	wrong := errors.New("wrong")
	if err := s.Replace(func(w *Writer) error { return errors.Join(w.Set([]byte("a"), []byte("half")), wrong) }); !errors.Is(err, wrong) {
		t.Fatalf("got %v", err)
	}
	holds(2)
	if err := s.Replace(func(w *Writer) error { return w.Set([]byte("b"), []byte("new")) }); err != nil {
		t.Fatal(err)
	}
	holds(3)
	if got := value(t, v, "a"); got != "old" {
		t.Errorf("the view on the old map shows %q", got)
	}
	close1(t, v)
	holds(2)
	close1(t, s)
	if err := s.Flush(); !errors.Is(err, ErrClosed) {
		t.Errorf("flushing a closed store: %v", err)
	}
}

// A damaged or lost name of the live map is an error, and removes nothing.
func TestDamagedCurrentFile(t *testing.T) {
	for content, want := range map[string]string{
		"":              "damaged",
		"map-000002":    "damaged", // cut
		"map-2\n":       "damaged",
		"nap-000002\n":  "damaged",
		"map-000003\n":  "map-000003",
		"map-000002\n ": "damaged",
		"lost":          "is missing, but there is map-000002",
	} {
		fs := vfs.NewMem()
		s := mustOpen(t, fs)
		if err := s.Replace(func(w *Writer) error { return w.Set([]byte("a"), []byte("kept")) }); err != nil {
			t.Fatal(err)
		}
		close1(t, s)
		var err error
		if content == "lost" {
			err = fs.Remove("dir/state/current")
		} else {
			err = vfs.AtomicWrite(fs, "dir/state/current", []byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open("dir/state", fs, small); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", content, err, want)
		}
		if err := vfs.AtomicWrite(fs, "dir/state/current", []byte("map-000002\n")); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, fs)
		v, err := s.View()
		if err != nil {
			t.Fatal(err)
		}
		if got := value(t, v, "a"); got != "kept" {
			t.Errorf("%q: after repair a is %q", content, got)
		}
		close1(t, v, s)
	}
}

// When the log cannot be written the store says so once and does nothing any
// more; nobody hangs, nothing panics.
func TestFailStop(t *testing.T) {
	var broken atomic.Bool
	mem := vfs.NewCrashableMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errorfs.ErrInjected
		}
		return nil
	}))
	told := make(chan error, 2)
	opts := small
	opts.Fatal = func(err error) { told <- err }
	s, err := Open("dir/state", fs, opts)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", "1")
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	for err = nil; err == nil; {
		var x *Txn
		if x, err = s.Begin(); err == nil {
			err = errors.Join(x.Set([]byte("a"), make([]byte, 64<<10)), x.Commit())
		}
	}
	if cause := <-told; !errors.Is(err, ErrFailed) || !errors.Is(cause, ErrFailed) || !errors.Is(cause, errorfs.ErrInjected) {
		t.Errorf("commit: %v, Fatal: %v", err, cause)
	}
	if _, _, err := v.Get([]byte("a")); !errors.Is(err, ErrFailed) {
		t.Errorf("read after the failure: %v", err)
	}
	broken.Store(false)
	_, begin := s.Begin()
	_, view := s.View()
	replace := s.Replace(func(*Writer) error { return nil })
	for what, err := range map[string]error{"Begin": begin, "View": view, "Replace": replace, "Flush": s.Flush(), "View.Close": v.Close(), "Failed": s.Failed()} {
		if !errors.Is(err, ErrFailed) {
			t.Errorf("%s after the failure: %v", what, err)
		}
	}
	if len(told) != 0 {
		t.Error("Fatal was told twice")
	}
	_ = s.Close() // it has nothing to add
}

func TestAfter(t *testing.T) {
	for in, want := range map[string]string{"a": "b", "a\xff": "b", "\xff\xff": "", "": ""} {
		if got := After([]byte(in)); string(got) != want {
			t.Errorf("After(%q) = %q, want %q", in, got, want)
		}
	}
}
