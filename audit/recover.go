package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// examine notices what others did to the file since the last write.
func (c *file) examine() error {
	info, err := c.f.Stat()
	if err != nil {
		return fmt.Errorf("looking at audit file: %w", err)
	}
	switch {
	case info.Unnamed:
		name, err := c.rescue()
		if err != nil {
			return err
		}
		why := "the file was deleted while in use; its records were brought back as " + filepath.Base(name)
		c.notify(Event{Kind: EventTampered, Sink: fileSink, Detail: why})
		if err := c.begin(nil); err != nil {
			return errors.Join(err, remove(c.fs, name)) // the next attempt makes another
		}
		return c.note(appendRecovery(nil, c.node, c.now(), &Recovery{Why: why}))
	case info.Size != c.size:
		why := fmt.Sprintf("%d bytes were written and %d are there", c.size, info.Size)
		c.notify(Event{Kind: EventTampered, Sink: fileSink, Detail: why})
		return c.begin(&Break{File: filepath.Base(c.path), Why: why})
	}
	return nil
}

// rescue copies a deleted file, which still exists as long as it is open, to a name
// of its own.
func (c *file) rescue() (string, error) {
	name, err := c.spare(c.first)
	if err != nil {
		return "", err
	}
	to, err := c.fs.Open(name, ModeCreate)
	if err != nil {
		return "", fmt.Errorf("bringing back the deleted audit file: %w", err)
	}
	// Through an interface without ReadFrom and WriteTo: io.Copy must not find a way
	// around the seam.
	_, err = io.Copy(struct{ io.Writer }{to}, io.NewSectionReader(c.f, 0, c.size))
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err == nil {
		err = c.fs.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("bringing back the deleted audit file: %w", err), remove(c.fs, name))
	}
	return name, nil
}

// recover makes a failed file usable again or returns why it is not.
//
// What the failed write left is removed before anything is written again, also when
// all of it seems to be there: after a failed sync the system may hold pages that
// never reach the disk and yet report the next sync as good (fsyncgate, 2018).
// What was acknowledged was synced before and stands in front of them.
func (c *file) recover() error {
	if wait := c.retry.Sub(c.now()); wait > 0 && wait <= retryEvery {
		return c.fault
	}
	cause, lost := c.fault, c.lost
	if err := c.settle(); err != nil {
		return c.fail(err)
	}
	if err := c.retract(); err != nil {
		if again := c.reopen(); again != nil {
			return c.fail(errors.Join(err, again))
		}
	}
	if err := c.examine(); err != nil {
		return c.fail(err)
	}
	if err := c.note(appendRecovery(nil, c.node, c.now(), &Recovery{Lost: lost, Why: class(cause)})); err != nil {
		return err
	}
	c.fault, c.lost = nil, 0
	return nil
}

// retract cuts the file back to what is durable. A file that lost more than that is
// left for examine to find.
func (c *file) retract() error {
	info, err := c.f.Stat()
	if err != nil {
		return fmt.Errorf("looking at audit file: %w", err)
	}
	if info.Size < c.size {
		return nil
	}
	if err := c.f.Truncate(c.size); err != nil {
		return fmt.Errorf("cutting a failed write off the audit file: %w", err)
	}
	if err := c.f.Sync(); err != nil {
		return fmt.Errorf("cutting a failed write off the audit file: %w", err)
	}
	return nil
}

// reopen looks for the file by its name after the descriptor went bad, as one does
// when a file system was mounted anew. It continues only the file that it left.
func (c *file) reopen() error {
	f, err := c.fs.Open(c.path, ModeAppend)
	if errors.Is(err, fs.ErrNotExist) {
		return c.begin(nil)
	}
	if err != nil {
		return fmt.Errorf("opening audit file: %w", err)
	}
	ours, err := c.same(f)
	if err != nil || !ours {
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("reading audit file: %w", err)
		}
		return c.begin(&Break{File: filepath.Base(c.path), Why: "not the file that was written"})
	}
	_ = c.f.Close() // it is the one that failed
	c.f = f
	return c.retract()
}

// same tells whether f holds what this log made durable.
func (c *file) same(f File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size < c.size {
		return false, err
	}
	e, err := readEnding(f, c.size, Head{})
	return e.why == "" && e.head == c.head && e.end == c.size, err
}

// follow goes on in a new file if the one in use is no longer at the path.
func (c *file) follow() error {
	f, err := c.fs.Open(c.path, ModeRead)
	if errors.Is(err, fs.ErrNotExist) {
		return c.begin(nil)
	}
	if err != nil {
		return fmt.Errorf("reopening audit file: %w", err)
	}
	there, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("reopening audit file: %w", err)
	}
	ours, err := c.f.Stat()
	if err != nil {
		return fmt.Errorf("reopening audit file: %w", err)
	}
	if there.ID == ours.ID {
		return nil
	}
	return c.begin(nil)
}
