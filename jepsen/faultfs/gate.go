package faultfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// gate is what every operation passes first: it waits and fails as the rules say.
func (f *FS) gate(ctx context.Context, op Op, name string) (lie bool, no syscall.Errno) {
	select {
	case <-f.rules.closed:
		return false, syscall.EIO
	default:
	}
	for _, r := range f.rules.bite(op, name) {
		if r.Delay > 0 {
			timer := time.NewTimer(r.Delay)
			no := f.wait(ctx, r.released, timer.C)
			timer.Stop()
			if no != 0 {
				return false, no
			}
		}
		if r.Hang {
			if no := f.wait(ctx, r.released, nil); no != 0 {
				return false, no
			}
		}
		if r.Errno != 0 {
			return false, r.Errno
		}
		lie = lie || r.Lie
	}
	return lie, 0
}

// deathPoll is how often a waiting operation looks whether its caller was killed.
const deathPoll = 20 * time.Millisecond

// wait waits for the end of a hang. It gives up with EINTR only when the caller is
// being killed: like a disk, it cannot be interrupted otherwise. The kernel reports
// one interruption per operation, perhaps of a harmless signal, so the caller is
// looked at instead. (Without this, not even kill -9 ends a process that waits.)
func (f *FS) wait(ctx context.Context, released <-chan struct{}, timer <-chan time.Time) syscall.Errno {
	poll := time.NewTicker(deathPoll)
	defer poll.Stop()
	for {
		select {
		case <-released:
			return 0
		case <-timer:
			return 0
		case <-f.rules.closed:
			return syscall.EIO
		case <-poll.C:
			if c, ok := fuse.FromContext(ctx); ok && c.Pid != 0 && dying(c.Pid) {
				return syscall.EINTR
			}
		}
	}
}

// dying says whether a thread is gone or has a SIGKILL pending.
func dying(tid uint32) bool {
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	defer func() { _ = status.Close() }() // it was only read
	lines := bufio.NewScanner(status)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name != "SigPnd" && name != "ShdPnd" {
			continue
		}
		pending, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err == nil && pending&(1<<(syscall.SIGKILL-1)) != 0 {
			return true
		}
	}
	return false
}
