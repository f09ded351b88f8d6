package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

const testPath = "d/audit.log"

var testHasher = NewHasher([]byte("a key of the test, 32 bytes long"))

// clock moves by a millisecond each time it is read, and by hand.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(time.Millisecond)
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func testOptions(fsys FS) Options {
	return Options{Path: testPath, Node: "n1", Cluster: "c1", Hash: testHasher, FS: fsys, Now: newClock().now}
}

func mustOpen(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Log("closing:", err) // a test may leave a sink broken on purpose
		}
	})
	return l
}

func entry(id string) *Entry {
	return &Entry{
		Type: TypeAccess, RequestID: id, Operation: "read", Path: "secret/data/" + id, Mount: "secret/", MountType: "kv",
		Auth:   Auth{Accessor: "acc-" + id, DisplayName: "userpass-ada", Policies: []string{"default", "team"}, TokenType: "service", Entity: "e-1"},
		Remote: "192.0.2.1:4711", Reason: "TICKET-123", Consistency: "linearizable", Index: 42,
		Rule: Rule{Policy: "team", Pattern: "secret/data/*"}, Outcome: OutcomeOK,
		Response: Data{JSON: []byte(`{"data":{"password":"hunter2"},"metadata":{"version":3}}`)},
	}
}

func mustAppend(t testing.TB, l *Log, from, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(context.Background(), entry(fmt.Sprintf("r%d", from+i))); err != nil {
			t.Fatal(err)
		}
	}
}

func mustFiles(t testing.TB, fsys FS) []string {
	t.Helper()
	files, err := Files(fsys, testPath)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func verify(t testing.TB, fsys FS, anchors ...Head) (Report, error) {
	t.Helper()
	return Verify(context.Background(), VerifyOptions{FS: fsys, Files: mustFiles(t, fsys), Anchors: anchors, Whole: true})
}

// mustVerify fails the test unless the log is in order.
func mustVerify(t testing.TB, fsys FS, anchors ...Head) Report {
	t.Helper()
	r, err := verify(t, fsys, anchors...)
	if err != nil {
		t.Fatalf("%v\n%+v", err, r)
	}
	if r.Anchored != len(anchors)-r.Before {
		t.Fatalf("%d of %d anchors matched", r.Anchored, len(anchors))
	}
	return r
}

// ids returns the request ids in the log, in order, and the faults met.
func ids(t testing.TB, fsys FS, filter Filter) (found []string, faults []*Fault) {
	t.Helper()
	for r, err := range Query(context.Background(), fsys, mustFiles(t, fsys), filter) {
		var fault *Fault
		switch {
		case errors.As(err, &fault):
			faults = append(faults, fault)
		case err != nil:
			t.Fatal(err)
		default:
			found = append(found, r.RequestID)
		}
	}
	return found, faults
}

// events collects what a log notifies.
type events struct {
	mu  sync.Mutex
	all []Event
}

func (e *events) notify(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) count(kind EventKind) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.all {
		if ev.Kind == kind {
			n++
		}
	}
	return n
}
