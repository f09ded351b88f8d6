package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// file is the log's own file: the chain, where it ends, and what is durable of it.
// One goroutine uses it.
type file struct {
	fs      FS
	path    string
	now     func() time.Time
	node    string
	cluster string
	keeping keeping
	notify  func(Event)

	f     File
	first uint64 // the number of its header
	born  time.Time
	size  int64 // Invariant: everything before size is durable, and what is behind it is not acknowledged
	head  Head  // of the record that ends at size

	moved string    // where a swap that failed halfway put the file at the path; empty otherwise
	fault error     // the failure of the last write, until a recovery
	lost  uint64    // records refused since then
	retry time.Time // no recovery is tried before
	self  []byte    // lines that the file wrote of its own accord, until the sinks have them
}

// retryEvery is how long a failed file rests: recovery costs several calls, and
// requests keep coming.
const retryEvery = 200 * time.Millisecond

// begin goes on in a new file whose header follows the head. What is at the path is
// moved aside. why is empty, or the break that the header names.
//
// The header is durable under another name before the path changes, and each step
// before the last leaves the old file in use, so a failure leaves the log as it was.
func (c *file) begin(broken *Break) error {
	kept, doomed, err := c.retention()
	if err != nil {
		return err
	}
	now := c.now()
	h := Header{Time: now, Format: Format, Node: c.node, Cluster: c.cluster, Oldest: kept, Break: broken}
	line, head := seal(nil, c.head, true, appendHeader(nil, &h))
	f, err := c.prepare(line)
	if err != nil {
		return err
	}
	if err := c.swap(); err != nil {
		return errors.Join(err, f.Close(), c.settle())
	}
	if c.f != nil {
		// Everything in it is synced; an error of its closing changes nothing.
		_ = c.f.Close()
	}
	c.f, c.first, c.born, c.size, c.head = f, head.Seq, now, int64(len(line)), head
	c.self = append(c.self, line...)
	c.discard(doomed)
	return nil
}

// prepare makes a file that holds line and nothing else, durable, under the next name.
func (c *file) prepare(line []byte) (File, error) {
	next := c.path + suffixNext
	if err := remove(c.fs, next); err != nil {
		return nil, fmt.Errorf("beginning audit file: %w", err)
	}
	f, err := c.fs.Open(next, ModeCreate)
	if err != nil {
		return nil, fmt.Errorf("beginning audit file: %w", err)
	}
	if _, err = f.Write(line); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("beginning audit file: %w", err), f.Close(), remove(c.fs, next))
	}
	return f, nil
}

// swap gives the path to the next file. What had it gets a name of its own first,
// and the directory is synced in between: no crash may leave the old file nameless.
func (c *file) swap() error {
	dir, next := filepath.Dir(c.path), c.path+suffixNext
	if err := c.aside(); err != nil {
		return err
	}
	if err := c.fs.SyncDir(dir); err != nil {
		return fmt.Errorf("beginning audit file: %w", err)
	}
	if err := c.fs.Rename(next, c.path); err != nil {
		return fmt.Errorf("beginning audit file: %w", err)
	}
	if err := c.fs.SyncDir(dir); err != nil {
		return fmt.Errorf("beginning audit file: %w", err)
	}
	c.moved = ""
	return nil
}

// settle undoes half a swap, durably. Until it has, nothing may be written: a crash
// might leave the new file at the path and what was acknowledged in the other.
func (c *file) settle() error {
	if c.moved == "" {
		return nil
	}
	there, err := exists(c.fs, c.moved)
	if err == nil && there {
		err = c.fs.Rename(c.moved, c.path)
	}
	if err == nil {
		err = c.fs.SyncDir(filepath.Dir(c.path))
	}
	if err != nil {
		return fmt.Errorf("putting the audit file back: %w", err)
	}
	c.moved = ""
	return nil
}

// aside moves what is at the path, if it is worth keeping, to a name of its own,
// which it leaves in moved.
func (c *file) aside() error {
	b, err := look(c.fs, c.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil && b.size == 0:
		return remove(c.fs, c.path)
	}
	// A file that cannot be read is kept like any other: it may be evidence.
	name, err := c.spare(b.start)
	if err != nil {
		return err
	}
	c.moved = name
	if err := c.fs.Rename(c.path, name); err != nil {
		return fmt.Errorf("rotating audit file: %w", err)
	}
	return nil
}

// spare returns a name for a file that begins with record start.
func (c *file) spare(start uint64) (string, error) {
	name := fmt.Sprintf("%s.%020d", c.path, start)
	for i := 2; ; i++ {
		taken, err := exists(c.fs, name)
		if err != nil {
			return "", fmt.Errorf("rotating audit file: %w", err)
		}
		if !taken {
			return name, nil
		}
		name = fmt.Sprintf("%s.%020d.%d", c.path, start, i)
	}
}

// ready brings the file into a state in which a group of n bytes can be written:
// recovered from a failure, in its place, and rotated if it is due. It may write
// records and move the head.
func (c *file) ready(n int) error {
	if c.fault != nil {
		if err := c.recover(); err != nil {
			return err
		}
	}
	if err := c.examine(); err != nil {
		return c.fail(err)
	}
	if c.keeping.due(c.size, int64(n), c.now().Sub(c.born)) {
		return c.rotate()
	}
	return nil
}

// write makes a group durable: lines, whose last record is head. On an error the
// group counts as never written.
func (c *file) write(lines []byte, head Head) error {
	_, err := c.f.Write(lines)
	if err != nil {
		return c.fail(fmt.Errorf("writing audit file: %w", err))
	}
	if err := c.f.Sync(); err != nil {
		return c.fail(fmt.Errorf("syncing audit file: %w", err))
	}
	c.size += int64(len(lines))
	c.head = head
	return nil
}

// note writes a record of the log's own.
func (c *file) note(body []byte) error {
	line, head := seal(nil, c.head, true, body)
	if err := c.write(line, head); err != nil {
		return err
	}
	c.self = append(c.self, line...)
	return nil
}

func (c *file) fail(err error) error {
	c.fault = err
	c.retry = c.now().Add(retryEvery)
	return err
}
