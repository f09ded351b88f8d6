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

// A transaction sees its own changes, a view and GetBefore do not.
func TestTxnSeesItsOwnChanges(t *testing.T) {
	s := mustOpen(t, vfs.NewMem())
	put(t, s, "a", "1")
	x, err := s.Begin()
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(x.Set([]byte("a"), []byte("2")), x.Delete([]byte("b"))); err != nil {
		t.Fatal(err)
	}
	before, _, err := x.GetBefore([]byte("a"))
	if err != nil || string(before) != "1" || value(t, x, "a") != "2" || value(t, v, "a") != "1" {
		t.Errorf("before %q %v, inside %q, outside %q", before, err, value(t, x, "a"), value(t, v, "a"))
	}
	if err := x.Set([]byte("c"), []byte("3")); err != nil { // after the index was built
		t.Fatal(err)
	}
	c, err := x.Cursor(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := ""
	for c.Next() {
		keys += string(c.Key())
	}
	close1(t, c)
	if keys != "ac" {
		t.Errorf("cursor sees %q, want ac", keys)
	}
	if err := x.Discard(); err != nil {
		t.Fatal(err)
	}
	close1(t, v, s)
}

// Replace swaps all or nothing; a view stays on the map it was taken from, and the
// old directory goes with its last view.
func TestReplace(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, fs)
	put(t, s, "a", "old")
	v, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	wrong := errors.New("wrong")
	if err := s.Replace(func(w *Writer) error { return errors.Join(w.Set([]byte("a"), []byte("half")), wrong) }); !errors.Is(err, wrong) {
		t.Fatalf("got %v", err)
	}
	if err := s.Replace(func(w *Writer) error { return w.Set([]byte("b"), []byte("new")) }); err != nil {
		t.Fatal(err)
	}
	now, err := s.View()
	if err != nil {
		t.Fatal(err)
	}
	if value(t, v, "a") != "old" || value(t, now, "a") != "absent" || value(t, now, "b") != "new" {
		t.Errorf("old view %q, new view %q and %q", value(t, v, "a"), value(t, now, "a"), value(t, now, "b"))
	}
	close1(t, v, now)
	if names, err := fs.List("dir/state"); err != nil || len(names) != 2 {
		t.Errorf("directory holds %v %v, want the file and one map", names, err)
	}
	close1(t, s)
	if err := s.Flush(); !errors.Is(err, ErrClosed) {
		t.Errorf("flushing a closed store: %v", err)
	}
	s = mustOpen(t, fs)
	put(t, s, "c", "x")
	close1(t, s)
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
