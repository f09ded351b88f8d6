package audit

import (
	"fmt"
	"path/filepath"
	"time"
)

// keeping says when a file is full and how many of the old ones stay.
type keeping struct {
	maxSize int64
	maxAge  time.Duration
	files   int
	age     time.Duration

	rest time.Time // after a rotation that failed: no other before
}

// rotationRest is how long a log writes on in a file that it could not rotate.
const rotationRest = 10 * time.Second

// due tells whether n more bytes belong in a new file. A negative age, of a clock
// that was set back, is no reason.
func (k *keeping) due(size, n int64, age time.Duration) bool {
	return size+n > k.maxSize || k.maxAge > 0 && age >= k.maxAge
}

// rotate begins a new file if one is due. A rotation that fails is no reason to
// refuse a request, as long as the old file is in its place: it is reported, and
// tried again later.
func (c *file) rotate() error {
	now := c.now()
	if wait := c.keeping.rest.Sub(now); wait > 0 && wait <= rotationRest || c.head.Seq == c.first {
		return nil // resting, or there is nothing in the file but its header
	}
	err := c.begin(nil)
	if err == nil {
		return nil
	}
	if c.moved != "" {
		return c.fail(err)
	}
	c.keeping.rest = now.Add(rotationRest)
	c.notify(Event{Kind: EventRotationFailed, Sink: fileSink, Err: err})
	return nil
}

// retention returns the oldest record that stays when a new file begins, and the
// files that go. Only files that name this node and cluster are ever removed: what
// cannot be read may be evidence, and is not ours to judge.
func (c *file) retention() (kept uint64, doomed []string, err error) {
	names, err := Files(c.fs, c.path)
	if err != nil {
		return 0, nil, err
	}
	var ours []oldFile
	for _, name := range names {
		b, err := look(c.fs, name)
		if err == nil && b.header != nil && b.header.Node == c.node && b.header.Cluster == c.cluster {
			ours = append(ours, oldFile{name, b.start, b.header.Time})
		}
	}
	kept = c.head.Seq + 1
	horizon := c.now().Add(-c.keeping.age)
	for i, old := range ours {
		tooMany := c.keeping.files > 0 && len(ours)-i > c.keeping.files
		// A file ended when the next began; the last one ends now.
		tooOld := c.keeping.age > 0 && i+1 < len(ours) && ours[i+1].born.Before(horizon)
		if !tooMany && !tooOld {
			kept = min(kept, old.start)
			break
		}
		doomed = append(doomed, old.name)
	}
	return kept, doomed, nil
}

type oldFile struct {
	name  string
	start uint64
	born  time.Time
}

// discard removes files that retention gave up, after the header that says so is
// durable. What cannot be removed is tried again at the next rotation.
func (c *file) discard(doomed []string) {
	for _, name := range doomed {
		if name == c.path {
			continue // moved aside since it was listed; the next rotation finds it
		}
		if err := remove(c.fs, name); err != nil {
			c.notify(Event{Kind: EventRotationFailed, Sink: fileSink, Err: fmt.Errorf("removing old audit file: %w", err)})
		}
	}
	if len(doomed) == 0 {
		return
	}
	if err := c.fs.SyncDir(filepath.Dir(c.path)); err != nil {
		c.notify(Event{Kind: EventRotationFailed, Sink: fileSink, Err: fmt.Errorf("removing old audit files: %w", err)})
	}
}
