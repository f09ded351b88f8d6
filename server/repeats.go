package server

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// A message of the Raft library that repeats is logged once, and then its
// number, in windows that grow: a node that is down for an hour would otherwise
// fill everybody's log with five lines a second.
const (
	repeatsFirst = 10 * time.Second
	repeatsMost  = 10 * time.Minute
	// repeatsKept bounds what is remembered. What comes on top is logged as it is.
	repeatsKept = 256
)

// samePart is the part of the log whose repetitions are left out, and sameNames
// are the attributes that make two of its messages different ones; others, such
// as back-off and term, change each time.
const samePart = "raft"

var sameNames = map[string]bool{"peer": true, "target": true, "server-id": true, "node": true}

// repeats is what was logged lately. Invariant: every message of the library
// reaches the log, or is counted in one that does, until close at the latest.
type repeats struct {
	after func(time.Duration, func()) (stop func() bool)

	mu     sync.Mutex
	recent map[string]*repeated
	closed bool
}

// repeated is one message and how often it came since it was last logged.
type repeated struct {
	window time.Duration
	stop   func() bool

	count  int
	last   slog.Record
	logger slog.Handler // with what was attached to the last
}

// newRepeats returns a memory whose windows are timed by after.
func newRepeats(after func(time.Duration, func()) (stop func() bool)) *repeats {
	return &repeats{after: after, recent: map[string]*repeated{}}
}

// afterFunc is time.AfterFunc in the form that newRepeats takes.
func afterFunc(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }

// logger returns l with repetitions left out.
func (r *repeats) logger(l *slog.Logger) *slog.Logger {
	return slog.New(&repeatsHandler{Handler: l.Handler(), memory: r})
}

// take notes a message and tells whether it is to be logged now.
func (r *repeats) take(key string, m slog.Record, logger slog.Handler) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return true
	}
	if e := r.recent[key]; e != nil {
		e.count++
		e.last, e.logger = m.Clone(), logger
		return false
	}
	if len(r.recent) >= repeatsKept {
		return true
	}
	e := &repeated{window: repeatsFirst}
	r.recent[key] = e
	e.stop = r.after(e.window, func() { r.windowEnds(key) })
	return true
}

// windowEnds tells how often the message came in its window, and forgets one
// that did not.
func (r *repeats) windowEnds(key string) {
	r.mu.Lock()
	e := r.recent[key]
	if e == nil || r.closed {
		r.mu.Unlock()
		return
	}
	if e.count == 0 {
		delete(r.recent, key)
		r.mu.Unlock()
		return
	}
	tell := e.summary()
	e.window = min(2*e.window, repeatsMost)
	e.stop = r.after(e.window, func() { r.windowEnds(key) })
	r.mu.Unlock()
	tell()
}

// summary takes the count and returns what logs it. The caller holds mu, under
// which nothing is logged: the log may be slow.
func (e *repeated) summary() func() {
	last, logger := e.last, e.logger
	last.AddAttrs(slog.Int("repeated", e.count), slog.Duration("within", e.window))
	e.count = 0
	return func() {
		// A log that cannot be written has nobody to be told about it.
		_ = logger.Handle(context.Background(), last)
	}
}

// close tells what was left out so far. What comes after it is logged as it is.
func (r *repeats) close() {
	r.mu.Lock()
	r.closed = true
	var tell []func()
	for _, e := range r.recent {
		e.stop()
		if e.count > 0 {
			tell = append(tell, e.summary())
		}
	}
	r.recent = nil
	r.mu.Unlock()
	for _, each := range tell {
		each()
	}
}

// repeatsHandler passes on what repeats does not hold back.
type repeatsHandler struct {
	slog.Handler
	memory *repeats
	key    string // of what was attached
	part   bool   // it is of samePart
}

// Handle implements slog.Handler.
func (h *repeatsHandler) Handle(ctx context.Context, m slog.Record) error {
	if !h.part {
		return h.Handler.Handle(ctx, m)
	}
	var key strings.Builder
	key.WriteString(m.Level.String() + "\x00" + m.Message + h.key)
	m.Attrs(func(a slog.Attr) bool {
		key.WriteString(difference(a))
		return true
	})
	if h.memory.take(key.String(), m, h.Handler) {
		return h.Handler.Handle(ctx, m)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h *repeatsHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.Handler = h.Handler.WithAttrs(attrs)
	for _, a := range attrs {
		next.part = next.part || a.Key == "part" && a.Value.String() == samePart
		next.key += difference(a)
	}
	return &next
}

// WithGroup implements slog.Handler.
func (h *repeatsHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.Handler = h.Handler.WithGroup(name)
	return &next
}

// difference is an attribute's share in the key.
func difference(a slog.Attr) string {
	if !sameNames[a.Key] {
		return ""
	}
	return "\x00" + a.Key + "=" + a.Value.String()
}
