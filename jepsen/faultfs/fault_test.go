package faultfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/conclave-secrets/conclave/jepsen/faultfs"
)

func (m mounted) set(t *testing.T, r faultfs.Rule) {
	t.Helper()
	must(t, m.Set(r))
}

func (m mounted) wantCount(t *testing.T, name string, want int64) {
	t.Helper()
	if got := m.Counts()[name]; got != want {
		t.Errorf("%s bit %d times, want %d", name, got, want)
	}
}

func TestErrors(t *testing.T) {
	m := mount(t, faultfs.Options{})
	must(t, os.Mkdir(m.path("d"), 0o755))
	write(t, m.path("d/f.log"), 0, []byte("x"))
	write(t, m.path("other"), 0, []byte("x"))
	f, err := os.OpenFile(m.path("d/f.log"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	bit := int64(0)
	at := func(op faultfs.Op, pattern string, do func() error) {
		t.Helper()
		m.set(t, faultfs.Rule{Name: "eio", Ops: op, Pattern: pattern, Errno: syscall.EIO})
		if err := do(); !errors.Is(err, syscall.EIO) {
			t.Errorf("operation %b under %q: %v", op, pattern, err)
		}
		must(t, os.WriteFile(m.path("other"), []byte("y"), 0o644))
		// The kernel may try a read again, page by page.
		if now := m.Counts()["eio"]; now == bit {
			t.Errorf("operation %b under %q was not counted", op, pattern)
		} else {
			bit = now
		}
		m.Clear("eio")
		if err := do(); err != nil {
			t.Errorf("operation %b when it was over: %v", op, err)
		}
	}
	at(faultfs.Read, "*.log", func() error { _, err := os.ReadFile(m.path("d/f.log")); return err })
	at(faultfs.Write, "d/*", func() error { _, err := f.WriteAt([]byte("z"), 0); return err })
	at(faultfs.Sync, "d/", f.Sync)
	at(faultfs.Create, "made", func() error { return os.Mkdir(m.path("made"), 0o755) })
	at(faultfs.Rename, "d/new", func() error { return os.Rename(m.path("d/f.log"), m.path("d/new")) })
	at(faultfs.Remove, "d/*", func() error { return os.Remove(m.path("d/new")) })
	m.set(t, faultfs.Rule{Name: "twice", Ops: faultfs.Write, Pattern: "other", Errno: syscall.EIO, Times: 1})
	if os.WriteFile(m.path("other"), []byte("y"), 0o644) == nil {
		t.Error("a single error did not come")
	}
	must(t, os.WriteFile(m.path("other"), []byte("y"), 0o644))
	m.wantCount(t, "twice", 1)
}

func TestRulesThatMakeNoSense(t *testing.T) {
	m := mount(t, faultfs.Options{})
	for _, r := range []faultfs.Rule{
		{Ops: faultfs.Read, Errno: syscall.EIO},
		{Name: "x", Errno: syscall.EIO},
		{Name: "x", Ops: faultfs.Read},
		{Name: "x", Ops: faultfs.Read, Lie: true},
		{Name: "x", Ops: faultfs.Read, Errno: syscall.EIO, Pattern: "["},
		{Name: "x", Full: true, Room: -1},
	} {
		if err := m.Set(r); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}

// What a failed sync should have written is lost in some cut although a later sync
// succeeded, and a later write and its sync are not.
func TestFailedSyncIsForGood(t *testing.T) {
	lost := 0
	for seed := range uint64(40) {
		m := mount(t, faultfs.Options{})
		write(t, m.path("f"), 0, bytes.Repeat([]byte("-"), 8192))
		sync(t, m.path("f"))
		sync(t, m.at)
		write(t, m.path("f"), 0, bytes.Repeat([]byte("1"), 4096))
		m.set(t, faultfs.Rule{Name: "eio", Ops: faultfs.Sync, Pattern: "f", Errno: syscall.EIO, Times: 1})
		change(t, m.path("f"), func(f *os.File) error {
			if err := f.Sync(); !errors.Is(err, syscall.EIO) {
				t.Errorf("the failing sync: %v", err)
			}
			return nil
		})
		write(t, m.path("f"), 4096, bytes.Repeat([]byte("2"), 4096))
		sync(t, m.path("f"))
		m.cut(t, seed)
		got := read(t, m.path("f"))
		if !bytes.Equal(got[4096:], bytes.Repeat([]byte("2"), 4096)) {
			t.Fatalf("seed %d: what was written and synced after the failure is lost", seed)
		}
		if bytes.Contains(got, []byte("-")) {
			lost++
		}
		must(t, m.Close())
	}
	if lost == 0 {
		t.Error("a failed sync never lost anything")
	}
}

func TestLyingSync(t *testing.T) {
	lost := 0
	for seed := range uint64(20) {
		m := mount(t, faultfs.Options{})
		m.set(t, faultfs.Rule{Name: "lie", Ops: faultfs.Sync, Lie: true})
		write(t, m.path("f"), 0, []byte("x"))
		sync(t, m.path("f"))
		sync(t, m.at)
		m.wantCount(t, "lie", 2)
		m.cut(t, seed)
		if got, err := os.ReadFile(m.path("f")); err != nil || string(got) != "x" {
			lost++
		}
		must(t, m.Close())
	}
	if lost == 0 {
		t.Error("lying syncs never lost anything")
	}
}

func TestFullDisk(t *testing.T) {
	m := mount(t, faultfs.Options{})
	write(t, m.path("old"), 0, make([]byte, 4096))
	m.set(t, faultfs.Rule{Name: "full", Full: true, Room: 10_000})
	f, err := os.Create(m.path("f"))
	must(t, err)
	defer f.Close()
	n, err := f.Write(make([]byte, 20_000))
	if n != 10_000 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d: %v", n, err)
	}
	var st syscall.Statfs_t
	must(t, syscall.Statfs(m.at, &st))
	if st.Bavail != 0 {
		t.Errorf("statfs says %d blocks", st.Bavail)
	}
	if err := f.Truncate(20_000); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("truncating upwards: %v", err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 20_000); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("allocating: %v", err)
	}
	_, err = f.WriteAt([]byte("over"), 0)
	must(t, err) // overwriting needs no room
	must(t, os.Remove(m.path("old")))
	must(t, syscall.Statfs(m.at, &st))
	if st.Bavail != 1 {
		t.Errorf("after a removal statfs says %d blocks", st.Bavail)
	}
	n, err = f.Write(make([]byte, 5000))
	if n != 4096 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("after a removal wrote %d: %v", n, err)
	}
	if m.Counts()["full"] < 4 {
		t.Error("the counter says", m.Counts()["full"])
	}
	m.Clear("full")
	_, err = f.WriteAt(make([]byte, 5000), 20_000)
	must(t, err)
}

func TestSlow(t *testing.T) {
	m := mount(t, faultfs.Options{})
	write(t, m.path("f"), 0, []byte("x"))
	m.set(t, faultfs.Rule{Name: "slow", Ops: faultfs.Sync, Delay: 150 * time.Millisecond})
	began := time.Now()
	sync(t, m.path("f"))
	if d := time.Since(began); d < 150*time.Millisecond {
		t.Errorf("it took only %v", d)
	}
	m.wantCount(t, "slow", 1)
}

// A hang lasts until it is cleared, does not touch other files, and the operation
// then succeeds.
func TestHang(t *testing.T) {
	m := mount(t, faultfs.Options{})
	write(t, m.path("f"), 0, []byte("x"))
	m.set(t, faultfs.Rule{Name: "hang", Ops: faultfs.Sync, Pattern: "f", Hang: true})
	f, err := os.Open(m.path("f"))
	must(t, err)
	defer f.Close()
	done := make(chan error, 1)
	go func() { done <- f.Sync() }()
	m.awaitCount(t, "hang", 1)
	must(t, os.WriteFile(m.path("other"), []byte("y"), 0o644))
	sync(t, m.path("other"))
	select {
	case err := <-done:
		t.Fatalf("it came back by itself: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	m.Clear("hang")
	must(t, <-done)
}

func (m mounted) awaitCount(t *testing.T, name string, want int64) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); m.Counts()[name] < want; <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s never bit", name)
		}
	}
}

// A process that hangs in the file system can be killed; one that still does at
// the end does not keep Close from ending.
func TestKillAndCloseWhileHanging(t *testing.T) {
	for _, killed := range []bool{true, false} {
		m := mount(t, faultfs.Options{})
		m.set(t, faultfs.Rule{Name: "hang", Ops: faultfs.Sync, Hang: true})
		c := start(t, "sync", m.at)
		m.awaitCount(t, "hang", 1)
		if killed {
			c.kill(t)
			m.cut(t, 1)
			must(t, m.Close())
			continue
		}
		must(t, m.Close())
		if got := c.line(t); !strings.Contains(got, syscall.EIO.Error()) {
			t.Errorf("the hanging process got %q", got)
		}
		must(t, c.cmd.Wait())
	}
}

func init() {
	children["sync"] = func(dir string) error {
		f, err := os.Create(filepath.Join(dir, "f"))
		if err == nil {
			_, err = os.Stdout.WriteString(errorText(f.Sync()) + "\n")
		}
		return err
	}
}

func errorText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

// Rot flips one bit, and a reader that had the file open and read sees it.
func TestRotAndTruncate(t *testing.T) {
	m := mount(t, faultfs.Options{})
	before := bytes.Repeat([]byte("a"), 10_000)
	write(t, m.path("f"), 0, before)
	sync(t, m.path("f"))
	f, err := os.Open(m.path("f"))
	must(t, err)
	defer f.Close()
	got := make([]byte, len(before))
	_, err = f.ReadAt(got, 0)
	must(t, err)
	off, err := m.Rot("f", 3)
	must(t, err)
	_, err = f.ReadAt(got, 0)
	must(t, err)
	for i := range got {
		if (got[i] != 'a') != (int64(i) == off) {
			t.Fatalf("byte %d is %q, and the rot is at %d", i, got[i], off)
		}
	}
	must(t, m.Truncate("f", 77))
	if got := read(t, m.path("f")); len(got) != 77 {
		t.Errorf("%d bytes are left", len(got))
	}
	for _, bad := range []error{m.Truncate("f", 78), m.Truncate("../f", 1), m.Truncate("none", 1)} {
		if bad == nil {
			t.Error("a truncation that cannot be was done")
		}
	}
}

// What a killed process served is unmounted by the next one, in its directory only;
// what somebody serves is left alone, and cannot be served twice.
func TestLeftovers(t *testing.T) {
	live := mount(t, faultfs.Options{})
	dir := t.TempDir()
	c := start(t, "serve", dir)
	if c.line(t) != "mounted" {
		t.Fatal("the child did not mount")
	}
	if gone, err := faultfs.Leftovers(dir); err != nil || len(gone) != 0 {
		t.Errorf("unmounted %v of a live process, %v", gone, err)
	}
	c.kill(t)
	if gone, err := faultfs.Leftovers(filepath.Dir(live.at)); err != nil || len(gone) != 0 {
		t.Errorf("unmounted %v of this process, or another directory's, %v", gone, err)
	}
	at := filepath.Join(dir, "at")
	if gone, err := faultfs.Leftovers(dir); err != nil || len(gone) != 1 || gone[0] != at {
		t.Errorf("unmounted %v, %v", gone, err)
	}
	left, err := os.ReadDir(dir)
	must(t, err)
	if len(left) != 2 { // backing store and mount point
		t.Errorf("what is left: %v", left)
	}
	must(t, os.WriteFile(filepath.Join(at, "f"), nil, 0o644), os.WriteFile(live.path("f"), nil, 0o644))
	if _, err := os.Stat(filepath.Join(dir, "backing", "f")); err == nil {
		t.Error("it is still mounted")
	}
	if _, err := os.Stat(filepath.Join(live.backing, "f")); err != nil {
		t.Error("the live mount is gone")
	}
	if f, err := faultfs.Mount(live.backing, at, faultfs.Options{}); f != nil || !errors.Is(err, faultfs.ErrBusy) {
		t.Errorf("serving a directory twice: %v", err)
	}
}

func init() {
	children["serve"] = func(dir string) error {
		backing, at := filepath.Join(dir, "backing"), filepath.Join(dir, "at")
		if err := errors.Join(os.Mkdir(backing, 0o755), os.Mkdir(at, 0o755)); err != nil {
			return err
		}
		if _, err := faultfs.Mount(backing, at, faultfs.Options{}); err != nil {
			return err
		}
		fmt.Println("mounted")
		select {}
	}
}
