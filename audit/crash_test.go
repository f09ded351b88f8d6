package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A run of a log on a disk that misbehaves, and what it acknowledged.
type ordeal struct {
	mu      sync.Mutex
	acked   []string
	anchors []Head
}

// endure opens the log and appends n records from several goroutines.
func (o *ordeal) endure(fsys FS, c *clock, prefix string, n int) error {
	opt := testOptions(fsys)
	opt.Now, opt.MaxSize = c.now, 3000
	l, err := Open(opt)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for i := range n {
				id := fmt.Sprintf("%s-%d-%d", prefix, g, i)
				l.Enter()
				if l.Append(context.Background(), entry(id)) == nil {
					o.mu.Lock()
					o.acked = append(o.acked, id)
					o.anchors = append(o.anchors, l.Head())
					o.mu.Unlock()
				}
				l.Leave()
				c.advance(retryEvery)
			}
		})
	}
	wg.Wait()
	return l.Close()
}

// check demands that everything acknowledged is there and the chain is in order.
func (o *ordeal) check(t *testing.T, what string, fsys *memFS) {
	t.Helper()
	r, err := verify(t, fsys, o.anchors...)
	if err != nil || r.Anchored != len(o.anchors) {
		t.Fatalf("%s: %v, %d of %d anchors\n%s", what, err, r.Anchored, len(o.anchors), dump(t, fsys))
	}
	found, faults := ids(t, fsys, Filter{})
	if len(faults) > 0 {
		t.Fatalf("%s: %v", what, faults[0])
	}
	slices.Sort(found)
	for _, id := range o.acked {
		if _, ok := slices.BinarySearch(found, id); !ok {
			t.Fatalf("%s: %s was acknowledged and is gone\n%s", what, id, dump(t, fsys))
		}
	}
}

func dump(t *testing.T, fsys *memFS) (all string) {
	fsys.fail = nil
	for _, name := range mustFiles(t, fsys) {
		all += "== " + name + "\n" + string(fsys.bytes(name)) + "\n"
	}
	return all
}

var errPower = errors.New("power is gone")

// What was acknowledged survives a power cut at any operation, the log opens again
// without a fault, and goes on.
func TestPowerCut(t *testing.T) {
	c := newClock()
	whole := newMemFS(0)
	if err := new(ordeal).endure(whole, c, "x", 6); err != nil {
		t.Fatal(err)
	}
	rounds := 6
	if testing.Short() {
		rounds = 1
	}
	cuts, cut := 0, 0
	for seed := range rounds {
		for at := 1; at <= whole.steps+5; at++ {
			fsys := newMemFS(uint64(at)<<8 + uint64(seed))
			fsys.fail = func(step int, _ string) error {
				if step >= at {
					return errPower
				}
				return nil
			}
			o := &ordeal{}
			if err := o.endure(fsys, c, "a", 6); err != nil {
				cuts++
			}
			// The second cut comes soon after the first: while the log recovers.
			again := fsys.crash()
			second := 1 + seed*7 + at%40
			again.fail = func(step int, _ string) error {
				if step >= second {
					return errPower
				}
				return nil
			}
			_ = o.endure(again, c, "b", 2) // the power may have gone; check tells
			last := again.crash()
			if err := o.endure(last, c, "c", 2); err != nil {
				t.Fatalf("cut at %d, seed %d: the log does not open any more: %v\n%s", at, seed, err, dump(t, last))
			}
			o.check(t, fmt.Sprintf("cut at %d, seed %d", at, seed), last)
			r, _ := verify(t, last)
			cut += len(r.Cuts)
		}
	}
	t.Logf("%d operations, %d runs, %d cuts recorded", whole.steps, rounds*(whole.steps+5), cut)
	if cut == 0 || cuts == 0 {
		t.Error("no crash left a torn write: the test proves nothing")
	}
}

// A power cut in the write of a group may leave any of its pages, and records behind
// a hole. That is cut off, and is no break: the first record of a group, and no
// other, says that what stands before it was durable.
func TestTornGroup(t *testing.T) {
	holes := 0
	for seed := range uint64(300) {
		fsys := newMemFS(seed)
		head := unsyncedGroup(t, fsys)
		after, ev := fsys.crash(), &events{}
		holed := false
		for r, err := range Query(context.Background(), after, mustFiles(t, after), Filter{}) {
			holed = holed || err != nil
			if err == nil && holed && r.Seq > head.Seq {
				holes++
				break
			}
		}
		o := testOptions(after)
		o.Notify, o.Anchor = ev.notify, head
		l := mustOpen(t, o)
		mustAppend(t, l, 2, 1)
		if ev.count(EventTampered) != 0 {
			t.Fatalf("seed %d: %v", seed, ev.all)
		}
		mustVerify(t, after, head, l.Head())
	}
	if t.Logf("%d holes", holes); holes < 20 {
		t.Errorf("only %d crashes left records behind a hole", holes)
	}
}

// unsyncedGroup makes a log whose last group, of six records, was written and not
// synced, and returns the head before that group.
func unsyncedGroup(t *testing.T, fsys *memFS) (head Head) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, testOptions(fsys))
		release := stall(fsys, "sync")
		first := goAppend(l, context.Background(), "first")
		synctest.Wait()
		var group []chan error
		for i := range 6 {
			group = append(group, goAppend(l, context.Background(), fmt.Sprint("g", i)))
		}
		synctest.Wait()
		fsys.mu.Lock()
		fsys.fail = func(_ int, op string) error {
			if op == "sync" {
				return errKilled
			}
			return nil
		}
		fsys.mu.Unlock()
		close(release)
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		head = l.Head()
		for _, c := range group {
			if err := <-c; !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
		}
	})
	return head
}

// A process that dies at any operation leaves what the system had cached; the next
// one builds on it, and then the power goes. Whatever the second process said was
// durable is.
func TestKilledThenPowerCut(t *testing.T) {
	c := newClock()
	whole := newMemFS(0)
	if err := new(ordeal).endure(whole, c, "x", 6); err != nil {
		t.Fatal(err)
	}
	for at := 1; at <= whole.steps; at++ {
		for seed := range 3 {
			fsys := newMemFS(uint64(at*3 + seed))
			fsys.fail = func(step int, _ string) error {
				if step >= at {
					return errKilled
				}
				return nil
			}
			o := &ordeal{}
			_ = o.endure(fsys, c, "a", 6) // it was killed
			fsys.fail = nil
			opt := testOptions(fsys)
			opt.Now = c.now
			l := mustOpen(t, opt)
			o.anchors = append(o.anchors, l.Head())
			if seed > 0 {
				mustAppend(t, l, 0, seed)
				o.acked = append(o.acked, "r0")
				o.anchors = append(o.anchors, l.Head())
			}
			after := fsys.crash()
			if err := o.endure(after, c, "b", 1); err != nil {
				t.Fatal(err)
			}
			o.check(t, fmt.Sprintf("killed at %d, seed %d", at, seed), after)
		}
	}
}

// An operation that fails, or several in a row, costs the records that were refused
// and no other; the log recovers by itself and says so.
func TestDiskErrors(t *testing.T) {
	c := newClock()
	whole := newMemFS(0)
	if err := new(ordeal).endure(whole, c, "x", 6); err != nil {
		t.Fatal(err)
	}
	widths := []int{1, 2, 5, 12}
	if testing.Short() {
		widths = []int{1, 12}
	}
	refused, recovered := 0, 0
	for _, fault := range []error{syscall.ENOSPC, syscall.EIO} {
		for _, width := range widths {
			for at := 1; at <= whole.steps; at++ {
				fsys := newMemFS(uint64(at * width))
				fsys.fail = func(step int, op string) error {
					if step >= at && step < at+width {
						return fault
					}
					return nil
				}
				o := &ordeal{}
				what := fmt.Sprintf("%v at %d for %d", fault, at, width)
				if err := o.endure(fsys, c, "a", 8); err != nil {
					refused++ // the log did not even open, or did not close in order
				}
				refused += 24 - len(o.acked)
				after := fsys.crash()
				if err := o.endure(after, c, "b", 1); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				o.check(t, what, after)
				r, _ := verify(t, after)
				recovered += len(r.Recoveries)
			}
		}
	}
	t.Logf("%d records refused, %d recoveries", refused, recovered)
	if refused == 0 || recovered == 0 {
		t.Error("no failure was seen: the test proves nothing")
	}
}

// A disk that stays full refuses with a clear error, and serves again when there is
// room; the record of it says how many were refused.
func TestFullDisk(t *testing.T) {
	fsys, c := newMemFS(1), newClock()
	o := testOptions(fsys)
	ev := &events{}
	o.Now, o.Notify = c.now, ev.notify
	l := mustOpen(t, o)
	mustAppend(t, l, 0, 3)
	full := true
	fsys.mu.Lock()
	fsys.fail = func(_ int, op string) error {
		if full && op == "write" {
			return syscall.ENOSPC
		}
		return nil
	}
	fsys.mu.Unlock()
	for range 4 {
		c.advance(time.Second)
		err := l.Append(context.Background(), entry("refused"))
		var sink *SinkError
		if !errors.As(err, &sink) || sink.Sink != fileSink || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("full disk: %v", err)
		}
	}
	if s := l.Status()[0]; s.State != StateFailing || s.Dropped != 4 {
		t.Errorf("status %+v", s)
	}
	fsys.mu.Lock()
	full = false
	fsys.mu.Unlock()
	c.advance(time.Second)
	mustAppend(t, l, 3, 1)
	r := mustVerify(t, fsys, l.Head())
	if len(r.Recoveries) != 1 || r.Recoveries[0].Lost != 4 || r.Recoveries[0].Why != "no space" {
		t.Errorf("recoveries %+v", r.Recoveries)
	}
	if s := l.Status()[0]; s.State != StateOK || s.Records != 4 {
		t.Errorf("status %+v", s)
	}
	fsys.mu.Lock()
	full = true
	fsys.mu.Unlock()
	if err := l.Append(context.Background(), entry("refused")); err == nil {
		t.Error("full again, and no error")
	}
	fsys.mu.Lock()
	full = false
	fsys.mu.Unlock()
	c.advance(time.Second)
	mustAppend(t, l, 4, 1)
	if r := mustVerify(t, fsys); len(r.Recoveries) != 2 || r.Recoveries[1].Lost != 1 {
		t.Errorf("recoveries %+v", r.Recoveries)
	}
	if ev.count(EventFailed) != 2 || ev.count(EventRecovered) != 2 {
		t.Errorf("events %+v", ev.all)
	}
}
