package cluster

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// disk stands between the library and its stores. The first failed write ends
// the goroutine that asked for it, so that no line of the library runs on
// memory that the disk does not hold (L8); a write that hangs silences the node
// as a leader and then halts it (L5).
//
// It is the only watchdog: the stores beneath time nothing themselves. It works
// by timers and not by a goroutine, so nothing runs while nothing is written.
// How long a write has taken is the clock's to say; the timer only has somebody look.
type disk struct {
	clock Clock
	slow  time.Duration
	dead  time.Duration
	halt  func(error)

	failed atomic.Bool

	mu      sync.Mutex
	running map[*write]struct{} // the library writes from two goroutines
}

// write is one write under way. All of it is guarded by disk.mu.
type write struct {
	what   string
	since  time.Duration
	looked time.Duration // when the watchdog last looked
	waited time.Duration // what it has counted since
	watch  *time.Timer
	over   bool // it has: a look that comes late changes nothing
}

// pace is how often the watchdog looks at a write.
func (d *disk) pace() time.Duration { return max(d.dead/10, time.Millisecond) }

// stalled tells that a write has been running for longer than slow.
func (d *disk) stalled() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for w := range d.running {
		if d.clock.Monotonic()-w.since > d.slow {
			return true
		}
	}
	return false
}

func (d *disk) begin(what string) *write {
	now := d.clock.Monotonic()
	w := &write{what: what, since: now, looked: now}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running == nil {
		d.running = map[*write]struct{}{}
	}
	d.running[w] = struct{}{}
	w.watch = time.AfterFunc(d.pace(), func() { d.look(w) })
	return w
}

func (d *disk) end(w *write) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w.over = true
	w.watch.Stop()
	delete(d.running, w)
}

// look counts the time since the last look, and fails the disk when the write
// has waited for dead. One step counts for two paces at most: when the whole
// process was stopped, the disk had no chance to answer either, and a node that
// halts for that comes back sealed.
func (d *disk) look(w *write) {
	d.mu.Lock()
	if w.over {
		d.mu.Unlock()
		return
	}
	now := d.clock.Monotonic()
	w.waited += min(now-w.looked, 2*d.pace())
	w.looked = now
	hangs := w.waited >= d.dead
	if !hangs {
		w.watch.Reset(d.pace())
	}
	d.mu.Unlock()
	if hangs {
		d.fail(fmt.Errorf("%s: the disk has not answered for %v", w.what, d.dead))
	}
}

// write runs do under the watchdog. It returns only on success: otherwise it
// halts the node and ends this goroutine. The library's deferred functions
// still run, and all of them answer "no" or "leadership lost". A write that comes
// back after the watchdog gave up may be durable; it is not acknowledged.
func (d *disk) write(what string, do func() error) {
	if d.failed.Load() {
		runtime.Goexit()
	}
	w := d.begin(what)
	err := do()
	d.end(w)
	if err != nil {
		d.fail(fmt.Errorf("%s: %w", what, err))
	}
	if d.failed.Load() {
		runtime.Goexit()
	}
}

func (d *disk) fail(err error) {
	d.failed.Store(true)
	d.halt(err)
}

// watchedLog is a raft.LogStore behind the disk's watchdog. A read that fails,
// other than for an entry that is not there, halts the node: the library panics
// on some such errors and goes on with a wrong idea of its log on others (L8, L11).
type watchedLog struct {
	raft.LogStore
	disk *disk
}

func (l *watchedLog) GetLog(index uint64, e *raft.Log) error {
	err := l.LogStore.GetLog(index, e)
	if err == nil || errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	l.disk.fail(fmt.Errorf("reading log entry %d: %w", index, err))
	runtime.Goexit()
	return err
}

func (l *watchedLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l *watchedLog) StoreLogs(es []*raft.Log) error {
	l.disk.write("appending to the log", func() error { return l.LogStore.StoreLogs(es) })
	return nil
}

func (l *watchedLog) DeleteRange(from, to uint64) error {
	l.disk.write(fmt.Sprintf("deleting log entries %d to %d", from, to), func() error { return l.LogStore.DeleteRange(from, to) })
	return nil
}

// IsMonotonic passes on what the store says (raft.MonotonicLogStore).
func (l *watchedLog) IsMonotonic() bool {
	m, ok := l.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// watchedStable is a raft.StableStore behind the disk's watchdog.
type watchedStable struct {
	raft.StableStore
	disk *disk
}

func (s *watchedStable) Set(key, value []byte) error {
	s.disk.write("writing the vote", func() error { return s.StableStore.Set(key, value) })
	return nil
}

func (s *watchedStable) SetUint64(key []byte, value uint64) error {
	s.disk.write("writing the term", func() error { return s.StableStore.SetUint64(key, value) })
	return nil
}

// watchedSnapshots tells the node of the membership that each finished
// snapshot carries: the library does not say the index of its configuration.
// Its writes are not timed. The fsync of a large snapshot takes as long as it
// takes, no leader waits for it, and one that fails leaves the log whole.
type watchedSnapshots struct {
	raft.SnapshotStore
	members func(raft.Configuration, uint64)
}

func (s *watchedSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, c, ci, t)
	if err != nil {
		return nil, err
	}
	return &watchedSink{SnapshotSink: sink, finished: func() { s.members(c, ci) }}, nil
}

type watchedSink struct {
	raft.SnapshotSink
	finished func()
}

func (s *watchedSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	s.finished()
	return nil
}

// copySnapshot writes a machine's snapshot into sink and closes or cancels it.
func copySnapshot(from io.WriterTo, sink raft.SnapshotSink) error {
	if _, err := from.WriteTo(sink); err != nil {
		return errors.Join(fmt.Errorf("writing snapshot: %w", err), sink.Cancel())
	}
	return sink.Close()
}
