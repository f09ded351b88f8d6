package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// fileSink is the name of the log's own file in Status, errors and events.
const fileSink = "file"

// Options say where a log goes and what it needs. Zero means the stated default.
type Options struct {
	Path    string // of the file; its directory exists. Required
	Node    string // named in each record. Required
	Cluster string // named in each header. Required
	Hash    Hasher // Required

	FS  FS               // nil: Disk
	Now func() time.Time // nil: time.Now. Safe for concurrent use

	// Strictness of the file. With BestEffort a request goes on without a record if
	// the file fails.
	Strictness Strictness
	// Deadline is how long a group of records may take in the file; 0 means 5 s.
	// Requests whose records take longer fail, and those after them at once, until
	// the disk answers again.
	Deadline time.Duration
	// Queue is how many records may wait; further ones block. 0 means 8192.
	Queue int

	MaxSize  int64         // a file larger than this is rotated; 0 means 100 MiB
	MaxAge   time.Duration // so is one older than this, at the next record; 0 means never
	Keep     int           // how many rotated files stay; 0 means all
	KeepDays int           // how many days a rotated file stays; 0 means for ever

	// Sinks are the copies beside the file.
	Sinks []Sink
	// Anchor is the newest head of this log that is known to have existed, from the
	// ledger; the zero Head if none is. A log that is found behind it goes on in a new
	// file whose header says so.
	Anchor Head
	// Notify hears of what an operator should know. It is called from the log's
	// goroutines: it must be safe for concurrent use, return soon, and not call the
	// log. nil: nobody does.
	Notify func(Event)
}

func (o *Options) fill() error {
	if o.Path == "" || o.Node == "" || o.Cluster == "" || o.Hash == nil {
		return errors.New("opening audit log: path, node, cluster and hash are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Deadline <= 0 {
		o.Deadline = 5 * time.Second
	}
	if o.Queue <= 0 {
		o.Queue = 8192
	}
	if o.MaxSize <= 0 {
		o.MaxSize = 100 << 20
	}
	if o.Notify == nil {
		o.Notify = func(Event) {}
	}
	seen := map[string]bool{fileSink: true}
	for _, s := range o.Sinks {
		if s.Name == "" || s.Writer == nil || seen[s.Name] {
			return fmt.Errorf("opening audit log: sink %q has no writer or no name of its own", s.Name)
		}
		seen[s.Name] = true
	}
	o.FS = orDisk(o.FS)
	return nil
}

// Log is an audit log that is being written. It is safe for concurrent use. One
// process may have one Log at a path; the caller sees to that.
type Log struct {
	node     string
	path     string
	hash     Hasher
	now      func() time.Time
	deadline time.Duration

	slots    chan struct{} // one for each record that waits or is being written
	wake     chan struct{} // holds at most one: there is something in the queue
	commands chan command
	closing  chan struct{}
	closed   chan struct{}
	close    sync.Once
	closeErr error // read after closed

	mu        sync.Mutex // guards what follows
	queue     []*pending
	shut      bool
	gathering bool // the goroutine that writes waits for the queue to grow

	unused sync.Pool    // of *pending
	under  atomic.Int64 // requests under way, see Enter

	head    atomic.Pointer[Head]
	size    atomic.Int64
	account account // of the file
	watch   watch

	// What follows belongs to the goroutine that writes.
	file    *file
	copiers []*copier
	group   []*pending
	lines   []byte
	verdict []*delivery
	began   time.Time // when the last group began to be written …
	ended   time.Time // … and when it was durable
	patient *time.Timer
}

// pending is a record on its way. Whoever moves state on from waiting or taken
// decides its fate.
type pending struct {
	body  []byte
	state atomic.Int32
	done  chan result // capacity 1
}

const (
	waiting   int32 = iota // in the queue
	taken                  // in the group that is being written
	finished               // answered
	withdrawn              // its caller left before it was taken
)

type result struct {
	err   error
	reuse bool // nobody else holds the pending any more
}

type command struct {
	run  func(*file) error
	done chan error
}

// Open opens the log and writes a header if its file is new. It fails where it
// cannot write; what it finds damaged it reports through Notify and leaves aside
// (see DESIGN.md, "At start").
func Open(o Options) (*Log, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	f := &file{
		fs: o.FS, path: o.Path, now: o.Now, node: o.Node, cluster: o.Cluster, notify: o.Notify,
		keeping: keeping{maxSize: o.MaxSize, maxAge: o.MaxAge, files: o.Keep, age: time.Duration(o.KeepDays) * 24 * time.Hour},
	}
	if err := f.open(o.Anchor); err != nil {
		return nil, err
	}
	l := &Log{
		node: o.Node, path: o.Path, hash: o.Hash, now: o.Now, deadline: o.Deadline,
		slots: make(chan struct{}, o.Queue), wake: make(chan struct{}, 1), commands: make(chan command),
		closing: make(chan struct{}), closed: make(chan struct{}),
		account: account{now: o.Now, notify: o.Notify, name: fileSink, strict: o.Strictness},
		file:    f,
	}
	l.unused.New = func() any { return &pending{done: make(chan result, 1)} }
	l.watch.log = l
	l.patient = time.NewTimer(0)
	for _, s := range o.Sinks {
		l.copiers = append(l.copiers, startCopier(s, o.Now, o.Notify))
	}
	l.publish()
	go l.run()
	return l, nil
}

// Append records an entry. When it returns nil the record is durable in the file and
// delivered to every other required sink; best-effort ones may not have it yet. It
// blocks while the queue is full, which is what holds back a node that is asked
// for more than its disk can take.
//
// On an error the request must not take effect, nor its answer leave: a *SinkError
// if a required sink failed, ErrClosed, or one that wraps the context's. The record
// may exist all the same.
func (l *Log) Append(ctx context.Context, e *Entry) error {
	if e.Type != TypeRequest && e.Type != TypeResponse && e.Type != TypeAccess {
		return fmt.Errorf("appending audit record: type %q is not a caller's", e.Type)
	}
	if err := l.acquire(ctx); err != nil {
		return err
	}
	p := l.unused.Get().(*pending)
	p.state.Store(waiting)
	p.body = e.body(p.body[:0], l.node, l.now(), l.hash)
	if err := l.enqueue(p); err != nil {
		<-l.slots
		if err == errSkipped {
			return nil
		}
		return err
	}
	select {
	case r := <-p.done:
		return l.answer(p, r)
	case <-ctx.Done():
	}
	if p.state.CompareAndSwap(waiting, withdrawn) {
		return fmt.Errorf("appending audit record: it was not written: %w", context.Cause(ctx))
	}
	select {
	case r := <-p.done: // it was answered in the same moment
		return l.answer(p, r)
	default:
	}
	return fmt.Errorf("appending audit record: it may or may not be written: %w", context.Cause(ctx))
}

// acquire waits for room in the queue.
func (l *Log) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("appending audit record: it was not written: %w", context.Cause(ctx))
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-l.closing:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("appending audit record: it was not written: %w", context.Cause(ctx))
	}
}

// errSkipped tells Append that the record is not written and that this is allowed.
var errSkipped = errors.New("record skipped")

func (l *Log) enqueue(p *pending) error {
	l.mu.Lock()
	shut, hung := l.shut, l.account.hung.Load()
	if !shut && !hung {
		l.queue = append(l.queue, p)
	}
	rouse := !l.gathering || l.enough()
	l.mu.Unlock()
	switch {
	case shut:
		return ErrClosed
	case hung:
		l.account.drop(1)
		if err := l.excuse(ErrHung); err != nil {
			return err
		}
		return errSkipped
	}
	if rouse {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func (l *Log) answer(p *pending, r result) error {
	if r.reuse && cap(p.body) <= 16<<10 {
		l.unused.Put(p)
	}
	return r.err
}

// excuse turns a failure of the file into what a request hears of it. Everything
// goes through the file's chain, so while a best-effort file fails nothing reaches a
// required copy either, and the request fails for that one's sake.
func (l *Log) excuse(err error) error {
	if l.account.strict == Required {
		return &SinkError{Sink: fileSink, Err: err}
	}
	for _, c := range l.copiers {
		if c.strict == Required {
			return &SinkError{Sink: c.name, Err: fmt.Errorf("the file before it failed: %w", err)}
		}
	}
	return nil
}

// Head returns the newest record that is durable in the file: what to anchor. It is
// at least as new as any record for which Append returned nil before the call.
func (l *Log) Head() Head { return *l.head.Load() }

// Status returns the condition of each sink, the file first.
func (l *Log) Status() []Status {
	all := make([]Status, 1, 1+len(l.copiers))
	all[0] = l.account.status()
	all[0].Size = l.size.Load()
	l.mu.Lock()
	for _, p := range l.queue {
		all[0].Waiting += int64(len(p.body))
	}
	l.mu.Unlock()
	for _, c := range l.copiers {
		all = append(all, c.status())
	}
	return all
}

// Rotate begins a new file now, whatever the old one's size. Records that were
// appended before are in the old one.
func (l *Log) Rotate(ctx context.Context) error {
	return l.command(ctx, func(f *file) error { return f.begin(nil) })
}

// Reopen is for a log rotator that has renamed the file, after which it sends
// SIGHUP: the log goes on in a new file at the path. It does nothing if the file at
// the path is the one in use.
func (l *Log) Reopen(ctx context.Context) error {
	return l.command(ctx, (*file).follow)
}

func (l *Log) command(ctx context.Context, run func(*file) error) error {
	c := command{run, make(chan error, 1)}
	select {
	case l.commands <- c:
	case <-l.closing:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("rotating audit log: %w", context.Cause(ctx))
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("rotating audit log: %w", context.Cause(ctx))
	}
}

// Close writes what waits, closes the sinks and returns. It waits for no sink longer
// than that sink's deadline; one that hangs is left behind.
func (l *Log) Close() error {
	l.close.Do(func() {
		l.mu.Lock()
		l.shut = true
		l.mu.Unlock()
		close(l.closing)
	})
	patience := 2 * l.deadline
	for _, c := range l.copiers {
		patience = max(patience, 2*l.deadline+2*c.cfg.Deadline)
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-l.closed:
		return l.closeErr
	case <-late.C:
		return &SinkError{Sink: fileSink, Err: ErrHung}
	}
}
