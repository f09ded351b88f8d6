package real

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// BuildTag is the tag of a binary whose clocks can be set wrong. Without it the
// faults of the clock are left out.
const BuildTag = "faultclock"

// clockVariable names the file from which a binary built with BuildTag
// reads how wrong its clock is: an offset of the wall clock and a drift of the
// monotonic one in parts per million. It repeats what it obeys in a file beside it.
const clockVariable = "CONCLAVE_FAULT_CLOCK"

var clockFaults = []fault{
	{"clock jump", clock, 3, (*blow).jump},
	{"clock drift", clock, 3, (*blow).drift},
}

func (r *run) clockFile(node int) string {
	return filepath.Join(r.options.Dir, fmt.Sprintf("clock%d", node+1))
}

// clockObeys tells whether the nodes read their clock files.
func (r *run) clockObeys() bool {
	_, err := os.Stat(r.clockFile(0) + ".seen")
	return err == nil
}

// setClock sets a clock wrong and waits until the node obeys; false: it does not.
func (b *blow) setClock(node int, offset time.Duration, ppm int64) (obeyed bool, err error) {
	text := fmt.Sprintf("%d %d\n", offset.Nanoseconds(), ppm)
	path := b.run.clockFile(node)
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return false, err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 3*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		seen, err := os.ReadFile(path + ".seen")
		if err == nil && string(seen) == text {
			return true, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
		pause(ctx, 10*time.Millisecond)
	}
	return false, nil
}

// wrong has a clock wrong for a while, during which its node takes office if it can:
// a leader's wall clock matters when its term begins.
func (b *blow) wrong(node int, offset time.Duration, ppm int64, what string) error {
	b.nodes = []int{node}
	obeyed, err := b.setClock(node, offset, ppm)
	if err != nil {
		return err
	}
	if obeyed {
		b.prove(what, 1)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 3*time.Second)
	defer cancel()
	if leader := b.run.leader(ctx); leader >= 0 && leader != node {
		if s, err := b.run.statusOf(ctx, node); err == nil {
			// Whether it can take over is the weather's; if it does, so much the better.
			_, _ = b.run.askers[leader].Operator.TransferLeadership(ctx, s.NodeID)
		}
	}
	b.hold()
	_, err = b.setClock(node, 0, 0)
	return err
}

// jump moves a wall clock by up to a minute; log time must not go back for it.
func (b *blow) jump() error {
	offset := time.Duration(b.rng.Int64N(int64(2*time.Minute))) - time.Minute
	// Log time never goes back, so whoever was ahead once stays ahead.
	b.run.raiseAhead(max(0, offset))
	return b.wrong(b.anyNode(), offset, 0, "wall clocks wrong")
}

// drift has a monotonic clock run up to 5 % fast or slow.
func (b *blow) drift() error {
	ppm := b.rng.Int64N(100_001) - 50_000
	// A drift lasts for seconds, and 5 % of them are less than this.
	b.run.addAhead(time.Second)
	return b.wrong(b.anyNode(), 0, ppm, "clocks with drift")
}

// raiseAhead notes that a wall clock was ahead by d, addAhead that one ran fast by d.
func (r *run) raiseAhead(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.jumped = max(r.jumped, d)
}

func (r *run) addAhead(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drifted += d
}

// latestLogTime is a time that no node's log has passed: ours, and as far ahead as
// any clock ever was.
func (r *run) latestLogTime() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Add(r.jumped + r.drifted).UTC()
}
