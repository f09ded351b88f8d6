package state

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// ErrFailed is in every error of a Store that met something it cannot survive,
// wrapped around the cause. The map in memory is not to be trusted any more; the
// one on disk is whole, as after a crash.
var ErrFailed = errors.New("state store has failed")

// Pebble ends in Logger.Fatalf when it cannot write its log or its manifest, and
// expects the process to be gone when that returns: after a return it would
// acknowledge the commit that failed, or write more to a file whose last sync
// failed. Neither may happen, and a stack trace helps no operator. So Fatalf
//
//  1. marks the store as failed: from now on nothing of ours enters Pebble;
//  2. tells Options.Fatal, which has the process stopped;
//  3. does not return: below one of our calls it unwinds to guard, which turns
//     it into an error; on a goroutine of Pebble's own it ends that goroutine,
//     whose deferred calls release what it holds, and which therefore never
//     flushes or compacts again.

// stopped is the panic that unwinds to guard.
type stopped struct{ err error }

// fail marks the store as failed. The first cause counts.
func (s *Store) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if !s.failed.CompareAndSwap(nil, &err) {
		return *s.failed.Load()
	}
	close(s.stop)
	if !s.opening.Load() {
		s.opts.Logger.Error("state store stops", "error", cause)
		s.opts.Fatal(err)
	}
	return err
}

// Failed returns what stopped the store, or nil.
func (s *Store) Failed() error {
	if p := s.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// guard runs a call into Pebble. It returns the failure of a store that has
// failed, before or during the call.
func (s *Store) guard(call func() error) (err error) {
	if err := s.Failed(); err != nil {
		return err
	}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case stopped:
			err = p.err
		default:
			panic(p)
		}
	}()
	if err := call(); err != nil {
		return err
	}
	return s.Failed()
}

// guardWait is guard for calls that may wait for a goroutine of Pebble's: to open,
// to close, to commit while the memtables are full. When that goroutine has
// ended because the store failed, the call would wait for ever; it is left
// behind, until the process ends, and nothing looks at what it does.
func (s *Store) guardWait(call func() error) error {
	done := make(chan error, 1)
	go func() { done <- s.guard(call) }()
	select {
	case err := <-done:
		return err
	case <-s.stop:
		return s.Failed()
	}
}

// belowGuard tells whether guard is among the callers.
func belowGuard() bool {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "storage/state.(*Store).guard") {
			return true
		}
		if !more {
			return false
		}
	}
}

// logger hands Pebble's messages to slog. Pebble's informational messages are
// about files, never about keys or values.
type logger struct {
	log   *slog.Logger
	store *Store
}

func (l logger) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l logger) Errorf(format string, args ...any) { l.log.Error(fmt.Sprintf(format, args...)) }

// Fatalf does not return.
func (l logger) Fatalf(format string, args ...any) {
	err := l.store.fail(fmt.Errorf(format, args...))
	if belowGuard() {
		panic(stopped{err})
	}
	runtime.Goexit()
}

// maxRetries is how often in a row Pebble may fail to flush or compact. It tries
// again at once and without end, so a disk that stays bad would keep a core busy
// and, with the memtables full, hold up the next commit for ever.
const maxRetries = 8

// backgroundError is called on the goroutine that flushes or compacts. What it
// could not write is still in memory and in the Raft log.
func (s *Store) backgroundError(err error) {
	s.opts.Logger.Error("state store background error", "error", err)
	if s.retries.Add(1) >= maxRetries {
		_ = s.fail(fmt.Errorf("writing in the background: %w", err)) // noted; nobody here to return it to
		runtime.Goexit()
	}
}

func (s *Store) backgroundSuccess(err error) {
	if err == nil {
		s.retries.Store(0)
	}
}

func (s *Store) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: s.backgroundError,
		FlushEnd:        func(info pebble.FlushInfo) { s.backgroundSuccess(info.Err) },
		CompactionEnd:   func(info pebble.CompactionInfo) { s.backgroundSuccess(info.Err) },
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			// The read that found it returns an error, too; other rows may be as bad.
			_ = s.fail(fmt.Errorf("%s is damaged: %w", info.Path, info.Details))
		},
	}
}
