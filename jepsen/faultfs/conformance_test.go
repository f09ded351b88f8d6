package faultfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/conclave-secrets/conclave/jepsen/faultfs"
)

// Seeded random operations give the same answers and the same tree as on a plain
// directory, before and after everything is settled by a close.
func TestLikeAPlainDirectory(t *testing.T) {
	for seed := range uint64(20) {
		m := mount(t, faultfs.Options{Ordered: seed%2 == 0})
		plain := t.TempDir()
		for _, d := range []string{"d1", "d2", "d1/d3"} {
			must(t, os.Mkdir(m.path(d), 0o755), os.Mkdir(filepath.Join(plain, d), 0o755))
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		succeeded := 0
		for step := range 250 {
			op, what := randomOp(rng)
			want, wantErr := op(plain)
			got, gotErr := op(m.at)
			if want != got || reason(wantErr) != reason(gotErr) {
				t.Fatalf("seed %d step %d %s: %q, %v; on a plain directory %q, %v", seed, step, what, got, gotErr, want, wantErr)
			}
			if gotErr == nil {
				succeeded++
			}
		}
		if succeeded < 60 {
			t.Errorf("seed %d: only %d operations succeeded", seed, succeeded)
		}
		sameTree(t, seed, m.at, plain)
		must(t, m.Close())
		sameTree(t, seed, m.backing, plain)
	}
}

func reason(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

type operation func(root string) (string, error)

// randomOp picks an operation on a small set of names, so that they collide.
func randomOp(rng *rand.Rand) (operation, string) {
	name := func() string {
		if rng.IntN(8) == 0 {
			return []string{"d1", "d2", "d1/d3", "d2/d3", "d4"}[rng.IntN(5)]
		}
		return []string{"", "", "d1", "d2", "d1/d3"}[rng.IntN(5)] + "/" + []string{"a", "b", "c"}[rng.IntN(3)]
	}
	a, b := name(), name()
	off, size := rng.Int64N(9000), rng.Int64N(9000)
	data := bytes.Repeat([]byte{byte('a' + rng.IntN(26))}, int(rng.Int64N(9000)))
	mode := fs.FileMode(0o600 + rng.IntN(0o100))
	with := func(flags int, do func(*os.File) (string, error)) operation {
		return func(root string) (string, error) {
			f, err := os.OpenFile(filepath.Join(root, a), flags, 0o644)
			if err != nil {
				return "", err
			}
			got, err := do(f)
			return got, errors.Join(err, f.Close())
		}
	}
	n := rng.IntN(15)
	all := []operation{
		with(os.O_RDWR|os.O_CREATE, func(f *os.File) (string, error) { k, err := f.WriteAt(data, off); return fmt.Sprint(k), err }),
		with(os.O_WRONLY|os.O_CREATE|os.O_APPEND, func(f *os.File) (string, error) { k, err := f.Write(data); return fmt.Sprint(k), err }),
		with(os.O_WRONLY|os.O_CREATE|os.O_EXCL, func(f *os.File) (string, error) { return "", f.Sync() }),
		with(os.O_WRONLY|os.O_CREATE|os.O_TRUNC, func(f *os.File) (string, error) { k, err := f.Write(data); return fmt.Sprint(k), err }),
		with(os.O_RDWR, func(f *os.File) (string, error) { return "", f.Truncate(size) }),
		with(os.O_RDONLY, func(f *os.File) (string, error) { p, err := io.ReadAll(f); return string(p), err }),
		with(os.O_RDONLY, func(f *os.File) (string, error) { return "", f.Sync() }),
		// Read and write on after the name is gone.
		with(os.O_RDWR, func(f *os.File) (string, error) {
			if err := os.Remove(f.Name()); err != nil {
				return "", err
			}
			_, err := f.WriteAt(data, off)
			p, rerr := io.ReadAll(f)
			st, serr := f.Stat()
			if serr == nil {
				p = fmt.Append(p, st.Size(), st.Sys().(*syscall.Stat_t).Nlink)
			}
			return string(p), errors.Join(err, rerr, serr)
		}),
		func(root string) (string, error) { return "", os.Mkdir(filepath.Join(root, a), 0o755) },
		func(root string) (string, error) { return "", os.Remove(filepath.Join(root, a)) },
		func(root string) (string, error) {
			return "", os.Rename(filepath.Join(root, a), filepath.Join(root, b))
		},
		func(root string) (string, error) {
			return "", os.Rename(filepath.Join(root, b), filepath.Join(root, a))
		},
		func(root string) (string, error) {
			return "", os.Link(filepath.Join(root, a), filepath.Join(root, b))
		},
		func(root string) (string, error) { return "", os.Symlink("a", filepath.Join(root, a)) },
		func(root string) (string, error) { return "", os.Chmod(filepath.Join(root, a), mode) },
	}
	return all[n], fmt.Sprintf("%d on %s, %s", n, a, b)
}

func sameTree(t *testing.T, seed uint64, got, want string) {
	t.Helper()
	g, w := tree(t, got), tree(t, want)
	for name := range w {
		if g[name] != w[name] {
			t.Errorf("seed %d: %s is %.80q, on a plain directory %.80q", seed, name, g[name], w[name])
		}
	}
	if len(g) != len(w) {
		t.Errorf("seed %d: %d names, on a plain directory %d", seed, len(g), len(w))
	}
}

// tree is all names below root, with mode, links and contents.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := fmt.Sprint(info.Mode(), info.Sys().(*syscall.Stat_t).Nlink)
		switch {
		case info.Mode().IsRegular():
			p, err := os.ReadFile(path)
			text += string(p)
			if err != nil {
				return err
			}
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			text += target
			if err != nil {
				return err
			}
		}
		rel, err := filepath.Rel(root, path)
		all[rel] = text
		return err
	}))
	return all
}

// Writers of one directory do not get into each other's way, and names that are
// replaced are never missing.
func TestConcurrentWriters(t *testing.T) {
	m := mount(t, faultfs.Options{})
	must(t, os.WriteFile(m.path("current"), []byte("v"), 0o644))
	var group errgroup.Group
	for w := range 4 {
		group.Go(func() error {
			mine, fresh := m.path(fmt.Sprint("w", w)), m.path(fmt.Sprint("fresh", w))
			for i := range 60 {
				text := bytes.Repeat([]byte{byte(w*60 + i)}, 5000+i)
				if err := os.WriteFile(mine, text, 0o644); err != nil {
					return err
				}
				got, err := os.ReadFile(mine)
				if err == nil && !bytes.Equal(got, text) {
					err = fmt.Errorf("writer %d reads %d bytes of something else", w, len(got))
				}
				if err := errors.Join(err, os.WriteFile(fresh, []byte("v"), 0o644), os.Rename(fresh, m.path("current"))); err != nil {
					return err
				}
				if got, err := os.ReadFile(m.path("current")); err != nil || string(got) != "v" {
					return fmt.Errorf("the replaced file: %q, %w", got, err)
				}
			}
			return nil
		})
	}
	must(t, group.Wait())
}

// flock belongs to the processes of the mount, and a killed one gives it up.
func TestLocks(t *testing.T) {
	m := mount(t, faultfs.Options{})
	c := start(t, "lock", m.at)
	c.line(t)
	f, err := os.Open(m.path("lock"))
	must(t, err)
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("a second lock: %v", err)
	}
	c.kill(t)
	must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB))
}

func init() {
	children["lock"] = func(dir string) error {
		f, err := os.Create(filepath.Join(dir, "lock"))
		if err != nil {
			return err
		}
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			return err
		}
		fmt.Println("locked")
		return syscall.Pause()
	}
}
