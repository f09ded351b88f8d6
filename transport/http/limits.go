package http

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// MaxBody bounds the body of a request, in bytes.
const MaxBody = 32 << 20

// Harden sets the limits of s that keep slow and greedy clients off.
func Harden(s *http.Server) {
	s.ReadHeaderTimeout = 10 * time.Second
	s.ReadTimeout = 2 * time.Minute
	s.WriteTimeout = 3 * time.Minute
	s.IdleTimeout = 5 * time.Minute
	s.MaxHeaderBytes = 64 << 10
}

// errBusy is the refusal of a request, errBodies that of a body, for which there is
// no room now.
var (
	errBusy   = &statusError{http.StatusServiceUnavailable, "this node has more to do than it can"}
	errBodies = &statusError{http.StatusServiceUnavailable, "this node holds as many bodies of requests as it can"}
)

// shared is the room that the bodies of all requests share. Without it, everybody
// who can connect, with a token or without, could have the node hold as many bodies
// of MaxBody as there may be requests. Bodies of usual size need none of it, so who
// fills it keeps out nobody but others with large ones.
type shared struct {
	most int64
	held atomic.Int64
}

// usualBody is how much of each body does not count, in bytes.
const usualBody = 64 << 10

// held is the body of one request. What is above usualBody counts as it is read, and
// until it is released.
type held struct {
	io.ReadCloser
	of   *shared
	read int64
	mine int64 // of what all hold
}

// Read implements io.Reader; it fails with errBodies.
func (b *held) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	more := max(b.read-usualBody, 0) - b.mine
	b.mine += more
	if b.of.held.Add(more) > b.of.most && more > 0 {
		return n, errBodies
	}
	return n, err
}

func (b *held) release() { b.of.held.Add(-b.mine) }
