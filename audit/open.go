package audit

import (
	"fmt"
	"path/filepath"
)

// open takes up the chain where the last process left it.
//
// It never refuses because of what it reads: a node whose audit file was damaged
// must be able to serve, or damaging a file would be a way to stop it. What is not
// in order is moved aside untouched, and the new file's header names the break, so
// that Verify reports it for as long as the file is kept. What open cannot do
// without is a place to write.
func (c *file) open(anchor Head) error {
	name, err := c.newest()
	if err != nil {
		return err
	}
	if name == "" {
		return c.start(anchor)
	}
	f, e, b, err := c.inspect(name, anchor)
	if err != nil {
		e.why = class(err)
	}
	if e.why == "" {
		e.why = behind(anchor, e.head)
	}
	if e.why != "" {
		c.head = e.head
		if anchor.Seq > c.head.Seq {
			c.head = anchor
		}
		if f != nil {
			_ = f.Close() // it was only read
		}
		return c.breakOff(name, e.why)
	}
	c.f, c.first, c.born = f, b.start, b.header.Time
	return c.adopt(name, e)
}

// newest returns the file that the chain ends in: the one at the path, or if there
// is none or it is empty (logrotate's "create"), the last one that was moved aside.
func (c *file) newest() (string, error) {
	if err := remove(c.fs, c.path+suffixNext); err != nil {
		return "", fmt.Errorf("opening audit log: %w", err)
	}
	there, err := exists(c.fs, c.path)
	if err != nil {
		return "", fmt.Errorf("opening audit log: %w", err)
	}
	if there {
		if b, err := look(c.fs, c.path); err != nil || b.size > 0 {
			return c.path, nil // one that cannot be read is a break, not an error
		}
	}
	names, err := Files(c.fs, c.path)
	for i := len(names) - 1; err == nil && i >= 0; i-- {
		if names[i] != c.path {
			return names[i], nil
		}
	}
	return "", err
}

// start begins the first file.
func (c *file) start(anchor Head) error {
	c.head = anchor
	if anchor.Seq == 0 {
		return c.begin(nil)
	}
	return c.breakOff(c.path, fmt.Sprintf("record %d was anchored, and there is no file", anchor.Seq))
}

func (c *file) breakOff(name, why string) error {
	c.notify(Event{Kind: EventTampered, Sink: fileSink, Detail: why})
	return c.begin(&Break{File: filepath.Base(name), Why: why})
}

// inspect reads a file's two ends.
func (c *file) inspect(name string, anchor Head) (f File, e ending, b beginning, err error) {
	if f, err = c.fs.Open(name, ModeAppend); err != nil {
		return nil, e, b, err
	}
	info, err := f.Stat()
	if err == nil {
		e, err = readEnding(f, info.Size, anchor)
	}
	if err == nil {
		b, err = look(c.fs, name)
	}
	if err == nil && e.why == "" {
		e.why = c.foreign(b.header)
	}
	return f, e, b, err
}

func (c *file) foreign(h *Header) string {
	switch {
	case h == nil:
		return "the header is damaged"
	case h.Format != Format:
		return fmt.Sprintf("format %d", h.Format)
	case h.Node != c.node || h.Cluster != c.cluster:
		return "the header names another node or cluster"
	}
	return ""
}

// behind tells what an anchor says against a chain that ends at head.
func behind(anchor, head Head) string {
	if anchor.Seq > head.Seq {
		return fmt.Sprintf("ends at record %d, and record %d was anchored", head.Seq, anchor.Seq)
	}
	return ""
}

// against tells what an anchor says against a record.
func against(anchor, record Head) string {
	if anchor.Seq == record.Seq && anchor.Hash != record.Hash {
		return fmt.Sprintf("record %d is not the one that was anchored", record.Seq)
	}
	return ""
}

// adopt goes on behind the last record of a file that was found in order, and
// records what it cut off. If that file is not at the path, a new one follows it.
func (c *file) adopt(name string, e ending) error {
	c.head, c.size = e.head, e.end
	if e.end < e.size {
		if err := c.retract(); err != nil {
			return err
		}
	}
	// What the last process wrote and renamed may have been read from the system's
	// memory only; this log will answer for it, so it becomes durable first.
	if err := c.f.Sync(); err != nil {
		return fmt.Errorf("syncing audit file: %w", err)
	}
	if err := c.fs.SyncDir(filepath.Dir(c.path)); err != nil {
		return fmt.Errorf("syncing audit directory: %w", err)
	}
	if name != c.path {
		if err := c.begin(nil); err != nil {
			return err
		}
	}
	if e.end == e.size {
		return nil
	}
	cut := Cut{File: filepath.Base(name), Bytes: e.size - e.end, SHA256: e.torn}
	c.notify(Event{Kind: EventCut, Sink: fileSink, Detail: fmt.Sprintf("%d bytes of an unfinished write", cut.Bytes)})
	return c.note(appendCut(nil, c.node, c.now(), &cut))
}
