package fsm

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// A flipped bit anywhere in the state directory is an error of Open, of a read
// or of Verify, or it costs no more than the newest entries, which the log
// brings back. It is never a wrong state that passes for a right one, and never
// a panic.
func TestEveryRottenFileIsDetected(t *testing.T) {
	s := newScript(t)
	mem := rottenDirectory(t, s)
	dice := rand.New(rand.NewPCG(1, 1))
	outcome := map[string]int{}
	for _, path := range files(t, mem, "dir/state") {
		size := len(slurp(t, mem, path)) // a marker has none: its name is its content
		kind := fileKind(mem.PathBase(path))
		for range min(size, 150) {
			at, bit := dice.IntN(size), byte(1)<<dice.IntN(8)
			fs := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: dice})
			flip(t, fs, path, at, bit)
			outcome[kind+": "+s.judge(t, fs, fmt.Sprintf("%s byte %d bit %#x", path, at, bit))]++
		}
	}
	for _, want := range []string{"table: detected", "log: earlier", "manifest: detected", "current: detected"} {
		if outcome[want] == 0 {
			t.Errorf("no case of %q: %v", want, outcome)
		}
	}
	t.Log(outcome)
}

// judge opens a damaged directory and tells what came of it.
func (s *script) judge(t *testing.T, fs vfs.FS, what string) string {
	t.Helper()
	store, err := state.Open("dir/state", fs, state.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10, Fatal: func(error) {}})
	if err != nil {
		if !strings.Contains(err.Error(), "state store") || strings.Contains(err.Error(), "goroutine") {
			t.Errorf("%s: error does not tell: %v", what, err)
		}
		return "detected"
	}
	m, err := Open(store)
	if err == nil {
		err = m.Verify()
	}
	if err != nil {
		// A store that failed cannot be closed, one that is only wrong can.
		if m != nil {
			_ = m.Close()
		}
		_ = store.Close()
		return "detected"
	}
	applied, _ := m.Applied()
	_, hash := m.StateHash()
	position := -1
	for i, e := range s.want.log {
		if e.Index == applied {
			position = i
		}
	}
	if position < 0 || s.want.hashes[position] != hash {
		t.Errorf("%s: a state at %d passes that never was", what, applied)
	}
	if err := errors.Join(m.Close(), store.Close()); err != nil {
		t.Errorf("%s: closing: %v", what, err)
	}
	if position < len(s.want.log)-1 {
		return "earlier"
	}
	return "harmless"
}

// rottenDirectory returns a state directory, not closed, with tables and a log.
func rottenDirectory(t *testing.T, s *script) *vfs.MemFS {
	mem := vfs.NewCrashableMem()
	store, err := state.Open("dir/state", mem, state.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(store)
	if err != nil {
		t.Fatal(err)
	}
	half := len(s.want.log) / 2
	if err := errors.Join(s.apply(m, 0, half), m.Flush(), s.apply(m, half, len(s.want.log))); err != nil {
		t.Fatal(err)
	}
	// Closing syncs the log; what was not flushed to tables is only there.
	if err := errors.Join(m.Close(), store.Close()); err != nil {
		t.Fatal(err)
	}
	return mem
}

func files(t *testing.T, fs vfs.FS, dir string) (paths []string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case info.IsDir():
			paths = append(paths, files(t, fs, path)...)
		default:
			paths = append(paths, path)
		}
	}
	return paths
}

func fileKind(name string) string {
	for _, k := range []struct{ part, kind string }{{".sst", "table"}, {".log", "log"}, {"marker", "marker"},
		{"MANIFEST", "manifest"}, {"OPTIONS", "options"}, {"current", "current"}} {
		if strings.Contains(name, k.part) {
			return k.kind
		}
	}
	return name
}

func slurp(t *testing.T, fs vfs.FS, path string) []byte {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return p
}

func flip(t *testing.T, fs vfs.FS, path string, at int, bit byte) {
	t.Helper()
	p := slurp(t, fs, path)
	p[at] ^= bit
	if err := vfs.AtomicWrite(fs, path, p); err != nil {
		t.Fatal(err)
	}
}
