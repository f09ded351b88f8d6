package faultfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/conclave-secrets/conclave/jepsen/faultfs"
)

// What was synced survives every cut; what was not is kept, lost and torn, each in
// some seed; and nothing else ever appears.
func TestCutOfOneFile(t *testing.T) {
	const size = 4096
	var kept, lost, torn, reordered int
	for seed := range uint64(300) {
		m := mount(t, faultfs.Options{})
		path := m.path("f")
		write(t, path, 0, bytes.Repeat([]byte("s"), size))
		sync(t, path)
		sync(t, m.at)
		write(t, path, 0, bytes.Repeat([]byte("1"), size))
		write(t, path, size, bytes.Repeat([]byte("2"), size))
		m.cut(t, seed)

		got := read(t, path)
		first, second := got[:min(size, len(got))], got[min(size, len(got)):]
		if len(first) != size {
			t.Fatalf("seed %d: the synced length is gone: %d bytes", seed, len(first))
		}
		if rest := strings.Trim(string(first), "s1"); rest != "" {
			t.Fatalf("seed %d: strange bytes %.20q", seed, rest)
		}
		if rest := strings.Trim(string(second), "2\x00"); rest != "" {
			t.Fatalf("seed %d: strange bytes %.20q", seed, rest)
		}
		ones, twos := bytes.Count(first, []byte("1")), bytes.Count(second, []byte("2"))
		switch {
		case ones%512 != 0 || twos%512 != 0:
			t.Fatalf("seed %d: torn inside a sector: %d and %d bytes", seed, ones, twos)
		case ones == 0 && twos == 0:
			lost++
		case ones == size && twos == size:
			kept++
		case ones == 0 && twos == size:
			reordered++
		case ones%size != 0 || twos%size != 0:
			torn++
		}
		must(t, m.Close())
	}
	t.Logf("of 300 cuts %d kept all, %d lost all, %d tore, %d kept only the newer write", kept, lost, torn, reordered)
	if kept == 0 || lost == 0 || torn == 0 || reordered == 0 {
		t.Error("a kind of loss never occurred")
	}
}

// A synced file under a synced name survives whatever happens around it.
func TestSyncedSurvives(t *testing.T) {
	m := mount(t, faultfs.Options{})
	want := map[string]string{}
	for seed := range uint64(200) {
		name := fmt.Sprint("kept", seed%7)
		want[name] = fmt.Sprint(seed, strings.Repeat("x", int(seed)*13))
		change(t, m.path("fresh"), func(f *os.File) error {
			_, err := f.WriteString(want[name])
			return errors.Join(f.Truncate(int64(len(want[name]))), err, f.Sync())
		})
		must(t, os.Rename(m.path("fresh"), m.path(name)))
		sync(t, m.at)
		// Noise that is never synced, some of it under the same names.
		write(t, m.path("noise"), int64(seed), []byte("noise"))
		must(t, os.WriteFile(m.path("fresh"), []byte("half"), 0o644))
		if seed%3 == 0 {
			must(t, os.Remove(m.path("noise")))
		}
		m.cut(t, seed)
		for name, text := range want {
			if got := string(read(t, m.path(name))); got != text {
				t.Fatalf("seed %d: %s holds %.30q, want %.30q", seed, name, got, text)
			}
		}
	}
	if n := m.Counts()["lost names"]; n == 0 {
		t.Error("no name was ever lost")
	}
}

// A rename that the directory's sync did not follow leaves the old file or the new
// one, whole, and both occur.
func TestRenameIsAtomic(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(60) {
		m := mount(t, faultfs.Options{})
		for _, name := range []string{"old", "new"} {
			write(t, m.path(name), 0, []byte(name))
			sync(t, m.path(name))
		}
		sync(t, m.at)
		must(t, os.Rename(m.path("new"), m.path("old")))
		m.cut(t, seed)
		got := string(read(t, m.path("old")))
		_, err := os.Stat(m.path("new"))
		if (got == "old") != (err == nil) {
			t.Fatalf("seed %d: the name stands for %q, and of the other: %v", seed, got, err)
		}
		seen[got]++
		must(t, m.Close())
	}
	t.Log(seen)
	if len(seen) != 2 || seen["old"] == 0 || seen["new"] == 0 {
		t.Errorf("the name stood for %v", seen)
	}
}

// Trees of directories, moved about and not synced, always come back as some tree
// in which every synced file is there exactly once.
func TestCutOfATree(t *testing.T) {
	lost := int64(0)
	for seed := range uint64(60) {
		m := mount(t, faultfs.Options{Ordered: seed%4 == 0})
		must(t, os.MkdirAll(m.path("a/b"), 0o755), os.MkdirAll(m.path("c"), 0o755))
		write(t, m.path("a/b/precious"), 0, []byte("gold"))
		for _, p := range []string{"a/b/precious", "a/b", "a", ""} {
			sync(t, m.path(p))
		}
		must(t,
			os.Rename(m.path("a/b"), m.path("c/b")),
			os.Rename(m.path("a"), m.path("c/b/a")),
			os.Mkdir(m.path("e"), 0o755),
			os.Rename(m.path("c/b/precious"), m.path("e/precious")),
			os.Remove(m.path("c/b/a")),
			os.Rename(m.path("e/precious"), m.path("precious")),
			os.Remove(m.path("e")))
		lost += m.cut(t, seed).Names
		var found []string
		must(t, filepath.WalkDir(m.at, func(path string, _ os.DirEntry, err error) error {
			if filepath.Base(path) == "precious" {
				found = append(found, path)
			}
			return err
		}))
		if len(found) != 1 || string(read(t, found[0])) != "gold" {
			t.Fatalf("seed %d: the synced file is at %v", seed, found)
		}
		must(t, m.Close())
	}
	if lost == 0 {
		t.Error("no name was ever lost")
	}
}

// A directory that is durably gone takes no undo of its former names along.
func TestCutAfterADirectoryIsGone(t *testing.T) {
	for seed := range uint64(20) {
		m := mount(t, faultfs.Options{})
		for range 2 {
			must(t, os.MkdirAll(m.path("d/e"), 0o755))
			write(t, m.path("d/e/f"), 0, []byte("x"))
			must(t, os.RemoveAll(m.path("d")), os.Mkdir(m.path("d"), 0o755))
			sync(t, m.at)
		}
		write(t, m.path("d/last"), 0, []byte("x"))
		m.cut(t, seed)
		if list, err := os.ReadDir(m.path("d")); err != nil || len(list) > 1 {
			t.Fatalf("seed %d: %v, %v", seed, list, err)
		}
		must(t, m.Close())
	}
}

// A file's own sync does not make its name durable, unless the model is ext4's.
func TestNamesNeedTheirDirectory(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		missing := 0
		for seed := range uint64(30) {
			m := mount(t, faultfs.Options{Ordered: ordered})
			write(t, m.path("f"), 0, []byte("x"))
			sync(t, m.path("f"))
			m.cut(t, seed)
			if _, err := os.Stat(m.path("f")); errors.Is(err, os.ErrNotExist) {
				missing++
			}
			must(t, m.Close())
		}
		if ordered != (missing == 0) {
			t.Errorf("ordered %v: the name was missing in %d of 30 cuts", ordered, missing)
		}
	}
}

// Equal changes and an equal seed give an equal disk.
func TestCutReplays(t *testing.T) {
	var trees []map[string]string
	for range 2 {
		m := mount(t, faultfs.Options{})
		for i := range 40 {
			write(t, m.path(fmt.Sprint("f", i%5)), int64(i)*700, bytes.Repeat([]byte{byte(i)}, 1500))
			must(t, os.Rename(m.path(fmt.Sprint("f", i%5)), m.path(fmt.Sprint("f", i*7%5))))
		}
		m.cut(t, 11)
		trees = append(trees, tree(t, m.at))
	}
	if fmt.Sprint(trees[0]) != fmt.Sprint(trees[1]) {
		t.Error("two trees")
	}
}

// A cut under a running process is refused and changes nothing.
func TestCutUnderAProcess(t *testing.T) {
	m := mount(t, faultfs.Options{})
	c := start(t, "lock", m.at)
	c.line(t)
	if _, err := m.PowerCut(1); !errors.Is(err, faultfs.ErrBusy) {
		t.Fatalf("a cut under a running process: %v", err)
	}
	if _, err := os.Stat(m.path("lock")); err != nil {
		t.Error(err)
	}
	c.kill(t)
	m.cut(t, 1)
}

// Old changes count as written back when a file holds too many, and memory does
// not grow without end.
func TestHold(t *testing.T) {
	m := mount(t, faultfs.Options{Hold: 8 << 10})
	write(t, m.path("f"), 0, nil)
	sync(t, m.at)
	for i := range int64(64) {
		write(t, m.path("f"), i*1024, bytes.Repeat([]byte("x"), 1024))
	}
	m.cut(t, 1)
	if got := read(t, m.path("f")); len(got) < 48*1024 || slices.ContainsFunc(got[:48*1024], func(b byte) bool { return b != 'x' }) {
		t.Errorf("only %d bytes are left", len(got))
	}
}

// Whatever was done to the names, a cut can take it back, and the rest goes on.
func TestCutOfRandomOperations(t *testing.T) {
	var total faultfs.Loss
	for seed := range uint64(20) {
		m := mount(t, faultfs.Options{Ordered: seed%4 == 0})
		rng := rand.New(rand.NewPCG(seed, 3))
		for cut := range uint64(4) {
			for _, d := range []string{"d1", "d2", "d1/d3"} {
				if err := os.Mkdir(m.path(d), 0o755); err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, syscall.ENOTDIR) {
					t.Fatal(err)
				}
			}
			for range 60 {
				op, _ := randomOp(rng)
				_, _ = op(m.at) // compared with a plain directory elsewhere
				if rng.IntN(20) == 0 {
					sync(t, m.at)
				}
			}
			loss := m.cut(t, seed<<8+cut)
			total.Writes += loss.Writes
			total.Names += loss.Names
			total.Kept += loss.Kept
			sameTree(t, seed, m.at, m.backing)
			if _, err := os.Stat(m.backing + ".removed/1"); err == nil {
				t.Fatalf("seed %d: the grave is not empty after a cut", seed)
			}
		}
		must(t, m.Close())
	}
	t.Logf("%+v", total)
	if total.Writes == 0 || total.Names == 0 || total.Kept == 0 {
		t.Error("too little happened")
	}
}
