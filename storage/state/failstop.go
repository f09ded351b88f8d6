package state

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/cockroachdb/pebble/v2"
)

// ErrFailed is in every error of a Store that met something it cannot survive,
// wrapped around the cause. The map in memory is not to be trusted any more; the
// one on disk is whole, as after a crash.
var ErrFailed = errors.New("state store has failed")

// When Pebble cannot write its log, its manifest or a directory, it ends in
// Logger.Fatalf or in a panic, and expects the process to be gone then. To return
// from Fatalf would acknowledge the commit that failed, or write more to a file
// whose last sync failed; some of the panics unwind over a mutex that is not held
// and cannot be recovered; and a stack trace helps no operator. So
//
//  1. the store is marked as failed: from now on nothing of ours enters Pebble;
//  2. Options.Fatal hears it and has the process stopped;
//  3. the goroutine goes no further. Fatalf ends it, and its deferred calls release
//     what it holds. What would become a panic is met earlier, at the file system
//     (mapFS), where the goroutine stays for good: nobody knows what it holds;
//  4. calls of ours that wait for such a goroutine are let go (guardWait).

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

// guard runs a short call into Pebble. It returns the failure of a store that has
// failed, before or during the call.
func (s *Store) guard(call func() error) error {
	if err := s.Failed(); err != nil {
		return err
	}
	if err := call(); err != nil {
		return s.judge(err)
	}
	return s.Failed()
}

// judge stops the store when err says that what it holds is damaged: Pebble
// tells its listener of most such finds, and of the rest only whoever reads.
func (s *Store) judge(err error) error {
	if pebble.IsCorruptionError(err) {
		return s.fail(err)
	}
	return err
}

// guardWait is guard for calls that write, or wait for a goroutine of Pebble's: to
// open, close, flush, commit. They run on a goroutine of their own. When the store
// fails, that one is left behind until the process ends, and nothing looks at what it does.
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
	_ = l.store.fail(fmt.Errorf(format, args...)) // noted in the store; nobody here to return it to
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
