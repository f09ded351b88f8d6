package faultfs_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/conclave-secrets/conclave/jepsen/faultfs"
)

// childVariable makes this test binary a process that uses a file system which
// the parent serves, to be killed by it.
const childVariable = "CONCLAVE_FAULTFS_CHILD"

var children = map[string]func(dir string) error{}

func TestMain(m *testing.M) {
	name := os.Getenv(childVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := children[name](os.Args[1]); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// mounted is a file system for the length of a test.
type mounted struct {
	*faultfs.FS
	backing, at string
}

func needFUSE(t *testing.T) {
	t.Helper()
	if err := faultfs.Usable(); err != nil {
		t.Skipf("\n*** NOT TESTED: %v ***", err)
	}
}

func mount(t *testing.T, o faultfs.Options) mounted {
	t.Helper()
	needFUSE(t)
	dir := t.TempDir()
	m := mounted{backing: filepath.Join(dir, "backing"), at: filepath.Join(dir, "at")}
	must(t, os.Mkdir(m.backing, 0o755), os.Mkdir(m.at, 0o755))
	f, err := faultfs.Mount(m.backing, m.at, o)
	if err != nil {
		t.Fatal(err)
	}
	m.FS = f
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m mounted) path(name string) string { return filepath.Join(m.at, name) }

func (m mounted) cut(t *testing.T, seed uint64) faultfs.Loss {
	t.Helper()
	loss, err := m.PowerCut(seed)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	return loss
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// child is a process of this test binary that uses a file system.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func start(t *testing.T, what, dir string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), childVariable+"="+what)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return &child{cmd, bufio.NewScanner(out)}
}

// line is the next line that the child prints.
func (c *child) line(t *testing.T) string {
	t.Helper()
	if !c.lines.Scan() {
		t.Fatalf("the child ended: %v", c.cmd.Wait())
	}
	return c.lines.Text()
}

// kill ends the child with SIGKILL and returns what it had printed by then.
func (c *child) kill(t *testing.T) (rest []string) {
	t.Helper()
	must(t, c.cmd.Process.Kill())
	for c.lines.Scan() {
		rest = append(rest, c.lines.Text())
	}
	if err := c.cmd.Wait(); c.cmd.ProcessState.Success() {
		t.Fatalf("the child ended by itself: %v", err)
	}
	return rest
}

// write writes a file in place and leaves it unsynced.
func write(t *testing.T, path string, off int64, p []byte) {
	t.Helper()
	change(t, path, func(f *os.File) error { _, err := f.WriteAt(p, off); return err })
}

func sync(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err, f.Sync(), f.Close())
}

func change(t *testing.T, path string, do func(*os.File) error) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	must(t, err, do(f), f.Close())
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	must(t, err)
	return p
}
