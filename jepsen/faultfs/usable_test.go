package faultfs_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/faultfs"
)

// Without root, without the device and without directories it says so.
func TestWhatIsMissingIsSaid(t *testing.T) {
	needFUSE(t)
	for what, want := range map[string]string{"no root": "mounting needs root", "no device": "opening /dev/fuse"} {
		c := start(t, what, t.TempDir())
		if got := c.line(t); !strings.Contains(got, want) || !strings.HasPrefix(got, "unusable") {
			t.Errorf("%s: %q", what, got)
		}
		must(t, c.cmd.Wait())
	}
	if f, err := faultfs.Mount(t.TempDir(), "/nowhere/at/all", faultfs.Options{}); f != nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("mounting nowhere: %v", err)
	}
	if f, err := faultfs.Mount("/nowhere/at/all", t.TempDir(), faultfs.Options{}); f != nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("mounting nothing: %v", err)
	}
}

func init() {
	say := func(dir string) error {
		_, err := faultfs.Mount(dir, dir, faultfs.Options{})
		if errors.Is(err, faultfs.ErrNoFUSE) {
			fmt.Print("unusable: ")
		}
		fmt.Println(err)
		return nil
	}
	children["no root"] = func(dir string) error {
		if err := syscall.Setresuid(65534, 65534, 65534); err != nil {
			return err
		}
		return say(dir)
	}
	children["no device"] = func(dir string) error {
		// A mount namespace of this thread alone, in which /dev is empty.
		runtime.LockOSThread()
		if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
			return err
		}
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := syscall.Mount("none", "/dev", "tmpfs", 0, ""); err != nil {
			return err
		}
		return say(dir)
	}
}

// Neither cuts nor removed files leave descriptors or goroutines behind.
func TestNothingIsLeftOpen(t *testing.T) {
	m := mount(t, faultfs.Options{})
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(list) + runtime.NumGoroutine()
	}
	m.cut(t, 0)
	before := open()
	for seed := range uint64(10) {
		for i := range 30 {
			write(t, m.path(fmt.Sprint("f", i)), 0, []byte("x"))
			must(t, os.Remove(m.path(fmt.Sprint("f", i))))
		}
		if seed%2 == 0 {
			sync(t, m.at)
		}
		if seed == 4 {
			eventually(t, func() error {
				_, _ = os.Stat(m.path("none")) // any lookup looks for what can be closed
				if now := open(); now > before+20 {
					return fmt.Errorf("150 removed files: %d descriptors and goroutines, first %d", now, before)
				}
				return nil
			})
		}
		if seed >= 5 {
			m.cut(t, seed)
		}
	}
	eventually(t, func() error {
		if now := open(); now > before+4 {
			return fmt.Errorf("after five cuts: %d descriptors and goroutines, first %d", now, before)
		}
		return nil
	})
}

// eventually waits for what the kernel and the scheduler do in their own time.
func eventually(t *testing.T, hold func() error) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		err := hold()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
