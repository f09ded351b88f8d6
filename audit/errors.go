package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ErrClosed is returned by a log after Close.
var ErrClosed = errors.New("audit log is closed")

// SinkError says which required sink did not take a record. The request that the
// record is about must fail. Whether the record became durable in the meantime is
// not known: a log may hold records of requests that were refused for want of an
// audit record, and never lacks one of a request that was served.
type SinkError struct {
	Sink string
	Err  error
}

// Error names the sink and what failed; never what was to be recorded.
func (e *SinkError) Error() string { return fmt.Sprintf("audit sink %s: %v", e.Sink, e.Err) }

// Unwrap returns the failure.
func (e *SinkError) Unwrap() error { return e.Err }

// ErrHung is inside a SinkError when the sink did not answer within its deadline,
// or had not yet answered an earlier group that ran into it.
var ErrHung = errors.New("did not answer within its deadline")

// class names a failure in one or two words of our own, for a record that outlives
// the machine it happened on.
func class(err error) string {
	for _, c := range []struct {
		is   error
		name string
	}{
		{syscall.ENOSPC, "no space"},
		{syscall.EROFS, "read-only file system"},
		{syscall.EIO, "i/o error"},
		{fs.ErrPermission, "permission denied"},
		{fs.ErrNotExist, "file not found"},
		{ErrHung, "deadline exceeded"},
		{os.ErrDeadlineExceeded, "deadline exceeded"},
		{context.DeadlineExceeded, "deadline exceeded"},
		{fs.ErrClosed, "file closed"},
	} {
		if errors.Is(err, c.is) {
			return c.name
		}
	}
	return "other failure"
}
