package audit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Strictness says what a failing sink means for requests.
type Strictness int

// The strictnesses.
const (
	// Required: a request fails if this sink fails or exceeds its deadline.
	Required Strictness = iota
	// BestEffort: a record that this sink does not take is counted and reported, and
	// the request goes on.
	BestEffort
)

// String returns "required" or "best-effort".
func (s Strictness) String() string {
	if s == BestEffort {
		return "best-effort"
	}
	return "required"
}

// Writer is where a copy of the log goes. NewSocket, NewSyslog and NewStream make
// the ones that come with this package.
type Writer interface {
	// Write delivers whole records, each a line of JSON with its end. When it returns
	// nil the destination has them, in the sense that the writer states. After an
	// error it may be called again with other records; those that failed are not
	// repeated. It must not keep lines, and should return when ctx ends, but is
	// waited for no longer than that even if it does not. Calls do not overlap.
	Write(ctx context.Context, lines []byte) error
	// Close frees what it holds. It comes after the last Write returned.
	Close() error
}

// Sink is one copy of the log, beside the file.
type Sink struct {
	Name       string // in Status, errors and events
	Strictness Strictness
	// Deadline is how long a group of records may take; 0 means 2 s. A required sink
	// that exceeds it fails the requests of that group, and those after it at once
	// until it answers again.
	Deadline time.Duration
	// Buffer is how many bytes may wait for a best-effort sink before records are
	// dropped; 0 means 8 MiB.
	Buffer int
	Writer Writer
	// Type and Options describe the sink to those who ask (Log.Sinks).
	Type    string
	Options map[string]string
}

// State is how a sink is.
type State string

// The states.
const (
	StateOK      State = "ok"
	StateFailing State = "failing" // the last write failed
	StateHung    State = "hung"    // a write exceeded its deadline and did not return yet
)

// Status is a sink's condition and what it has done since the log was opened.
type Status struct {
	Name       string    `json:"name"`
	Strictness string    `json:"strictness"`
	State      State     `json:"state"`
	Records    uint64    `json:"records"` // delivered
	Bytes      uint64    `json:"bytes"`
	Failures   uint64    `json:"failures"` // groups that failed or were late
	Dropped    uint64    `json:"dropped"`  // records that it does not have
	Waiting    int64     `json:"waiting"`  // bytes on their way to it
	LastError  string    `json:"last_error,omitempty"`
	LastFailed time.Time `json:"last_failed,omitzero"`
	// Size is that of the file, and 0 for other sinks.
	Size int64 `json:"size,omitempty"`
}

// EventKind says what happened.
type EventKind string

// The events. Failed, Recovered and Dropping are told once per change of state.
const (
	EventFailed         EventKind = "sink failed"
	EventRecovered      EventKind = "sink recovered"
	EventDropping       EventKind = "sink drops records"
	EventCut            EventKind = "unfinished write removed"
	EventTampered       EventKind = "log not as it was left"
	EventRotationFailed EventKind = "rotation failed"
)

// Event is something an operator should hear of.
type Event struct {
	Kind   EventKind
	Sink   string
	Err    error
	Detail string
}

// account is the part of a sink's status that its goroutine and others share.
type account struct {
	now      func() time.Time
	notify   func(Event)
	name     string
	strict   Strictness
	records  atomic.Uint64
	bytes    atomic.Uint64
	failures atomic.Uint64
	dropped  atomic.Uint64
	waiting  atomic.Int64
	hung     atomic.Bool

	mu         sync.Mutex // guards what follows
	failing    bool
	dropping   bool
	lastError  string
	lastFailed time.Time
}

// delivered counts a group that arrived.
func (a *account) delivered(records, bytes int) {
	a.records.Add(uint64(records))
	a.bytes.Add(uint64(bytes))
	a.mu.Lock()
	was := a.failing || a.dropping
	a.failing, a.dropping = false, false
	a.mu.Unlock()
	if was {
		a.notify(Event{Kind: EventRecovered, Sink: a.name})
	}
}

// failed counts a group of records that did not.
func (a *account) failed(records int, err error) {
	a.dropped.Add(uint64(records))
	a.late(err)
}

// late counts a failure whose records may yet arrive.
func (a *account) late(err error) {
	a.failures.Add(1)
	a.mu.Lock()
	was := a.failing
	a.failing = true
	a.lastError, a.lastFailed = err.Error(), a.now()
	a.mu.Unlock()
	if !was {
		a.notify(Event{Kind: EventFailed, Sink: a.name, Err: err})
	}
}

// drop counts records that were not even tried.
func (a *account) drop(records int) {
	a.dropped.Add(uint64(records))
	a.mu.Lock()
	was := a.dropping
	a.dropping = true
	a.mu.Unlock()
	if !was {
		a.notify(Event{Kind: EventDropping, Sink: a.name})
	}
}

func (a *account) status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Status{
		Name: a.name, Strictness: a.strict.String(), State: StateOK,
		Records: a.records.Load(), Bytes: a.bytes.Load(), Failures: a.failures.Load(),
		Dropped: a.dropped.Load(), Waiting: a.waiting.Load(),
		LastError: a.lastError, LastFailed: a.lastFailed,
	}
	switch {
	case a.hung.Load():
		s.State = StateHung
	case a.failing || a.dropping:
		s.State = StateFailing
	}
	return s
}
