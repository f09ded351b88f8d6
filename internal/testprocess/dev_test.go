package testprocess_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// However "conclave dev" ends, no process is left; unless it is killed itself no
// file is either, and then the next "dev" removes what it left.
func TestDevEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(*testing.T, *devRun)
		code int
		says string
	}{
		{"Ctrl-C", func(t *testing.T, d *devRun) { d.signal(t, -d.cmd.Process.Pid, syscall.SIGINT) }, 0, ""},
		{"SIGTERM", func(t *testing.T, d *devRun) { d.signal(t, d.cmd.Process.Pid, syscall.SIGTERM) }, 0, ""},
		{"SIGHUP", func(t *testing.T, d *devRun) { d.signal(t, d.cmd.Process.Pid, syscall.SIGHUP) }, 0, ""},
		{"a node dies", func(t *testing.T, d *devRun) { d.signal(t, d.nodes(t)[0], syscall.SIGKILL) }, 2, "ended unexpectedly"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := startDev(t, t.TempDir())
			test.end(t, d)
			got := d.wait(t)
			if got.code != test.code || !strings.Contains(got.err, test.says) {
				t.Errorf("exit code %d, want %d\n%s", got.code, test.code, got.err)
			}
			noTrace(t, "dev", got.out+got.err)
			d.nothingLeft(t)
			wantEmpty(t, d.tmp)
		})
	}
	t.Run("kill -9", func(t *testing.T) {
		d := startDev(t, t.TempDir())
		d.signal(t, d.cmd.Process.Pid, syscall.SIGKILL)
		d.wait(t)
		d.nothingLeft(t)
		next := startDev(t, d.tmp)
		next.signal(t, next.cmd.Process.Pid, syscall.SIGTERM)
		next.wait(t)
		wantEmpty(t, d.tmp)
	})
}

// A devRun is one running "conclave dev".
type devRun struct {
	cmd  *exec.Cmd
	tmp  string
	out  growing
	errs growing

	ended chan struct{} // closed when the process has ended; err is set then
	err   error
}

// growing is what a process has written so far.
type growing struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (g *growing) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(p)
}

func (g *growing) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

// startDev runs "dev" in a process group of its own and waits until it is up.
func startDev(t *testing.T, tmp string) *devRun {
	t.Helper()
	d := &devRun{tmp: tmp, ended: make(chan struct{})}
	d.cmd = exec.Command(binary, "dev", "--port", "0")
	d.cmd.Env = append(withoutSettings(os.Environ()), "TMPDIR="+tmp)
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.errs
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begun := time.Now()
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.ended)
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // it has ended, or the test has failed already
		<-d.ended
	})
	for up := within(t, patience); !strings.Contains(d.out.String(), "Ctrl-C stops it"); {
		select {
		case <-d.ended:
			t.Fatalf("the development cluster ended instead of coming up: %v\n%s%s", d.err, &d.out, &d.errs)
		case <-up.Done():
			t.Fatalf("the development cluster does not come up:\n%s%s%s", &d.out, &d.errs, d.logs())
		case <-time.After(30 * time.Millisecond):
		}
	}
	t.Logf("up after %v", time.Since(begun).Round(10*time.Millisecond))
	return d
}

// logs returns the ends of the nodes' logs.
func (d *devRun) logs() string {
	files, err := filepath.Glob(filepath.Join(d.tmp, "*", "*", "log"))
	if err != nil {
		return err.Error()
	}
	var all strings.Builder
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			raw = []byte(err.Error())
		}
		fmt.Fprintf(&all, "--- %s\n%s\n", file, raw[max(0, len(raw)-4000):])
	}
	return all.String()
}

func (d *devRun) signal(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// wait waits for its end. Whoever starts "dev" and has ended it must not wait
// forever for it.
func (d *devRun) wait(t *testing.T) said {
	t.Helper()
	select {
	case <-d.ended:
	case <-within(t, patience).Done():
		t.Fatalf("conclave dev does not end:\n%s%s", &d.out, &d.errs)
	}
	var ended *exec.ExitError
	if d.err != nil && !errors.As(d.err, &ended) {
		t.Fatal(d.err)
	}
	return said{d.cmd.ProcessState.ExitCode(), d.out.String(), d.errs.String()}
}

// nodes are the process ids of its children.
func (d *devRun) nodes(t *testing.T) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(line, []byte("--data-dir\x00"+d.tmp)) {
			continue // ended meanwhile, or somebody else's
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/", &pid); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// nothingLeft waits for the last process to go: after kill -9 the system tells
// them, and they stop in their own time.
func (d *devRun) nothingLeft(t *testing.T) {
	t.Helper()
	eventually(t, "all processes end", func(context.Context) error {
		if left := d.nodes(t); len(left) > 0 {
			return fmt.Errorf("processes %v are left", left)
		}
		return nil
	})
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s is left", e.Name())
	}
}
