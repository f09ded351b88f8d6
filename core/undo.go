package core

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/fsm"
)

// Undoer undoes the effects on outside systems of leases that have ended, for as long
// as it takes. One runs in the cluster, where the leader is; its successor finds
// everything in the ledger and needs nothing from it.
//
// Each outside system has a goroutine of its own while something waits there, so that
// one which is down delays no other.
type Undoer struct {
	pipeline *Pipeline
	logger   *slog.Logger
	pace     Pace

	mu     sync.Mutex
	counts UndoCounts
}

// Pace says how an Undoer goes about its work. Zero means the stated default.
type Pace struct {
	Look     time.Duration // how often it looks for new work; 200 ms
	Parallel int           // effects of one system that are undone at once; 8
	Attempt  time.Duration // bound of one attempt; 20 s
	// First and Most bound the pauses after failures, each about twice as long as the
	// one before: 500 ms and 30 s.
	First, Most time.Duration
}

func (p *Pace) fill() {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&p.Look, 200*time.Millisecond)
	def(&p.Attempt, 20*time.Second)
	def(&p.First, 500*time.Millisecond)
	def(&p.Most, 30*time.Second)
	if p.Parallel == 0 {
		p.Parallel = 8
	}
}

// UndoCounts are what an Undoer has done since its process began, for metrics.
type UndoCounts struct {
	Undone, Failed uint64
	// Failing is how many systems failed at the last attempt: an alarm.
	Failing int
}

// NewUndoer returns an Undoer on a pipeline.
func NewUndoer(p *Pipeline, logger *slog.Logger, pace Pace) *Undoer {
	pace.fill()
	return &Undoer{pipeline: p, logger: logger, pace: pace}
}

// Counts returns what was done.
func (u *Undoer) Counts() UndoCounts {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.counts
}

// Run works until ctx ends, and returns when every attempt has ended.
func (u *Undoer) Run(ctx context.Context) {
	var working sync.WaitGroup
	defer working.Wait()
	var mu sync.Mutex
	busy := map[string]bool{} // systems with a goroutine; guarded by mu
	for ctx.Err() == nil {
		systems, err := u.waiting(ctx)
		if err != nil {
			u.logger.Debug("looking for effects to undo failed", "error", err) // sealed, or closing
		}
		for _, system := range systems {
			mu.Lock()
			begun := busy[string(system)]
			busy[string(system)] = true
			mu.Unlock()
			if begun {
				continue
			}
			working.Go(func() {
				u.clear(ctx, system)
				mu.Lock()
				defer mu.Unlock()
				delete(busy, string(system))
			})
		}
		if err == nil {
			u.endMounts(ctx)
		}
		rest(ctx, u.pace.Look)
	}
}

// on runs read on a transaction on what this node has applied.
func (u *Undoer) on(ctx context.Context, read func(*tx) error) (err error) {
	keys, err := u.pipeline.gate.open()
	if err != nil {
		return err
	}
	view, err := u.pipeline.views.at(ctx, 0)
	if err != nil {
		return err
	}
	defer closeView(view, &err)
	t := newTx(view, keys, u.pipeline.rand, true)
	if err := t.followRotation(); err != nil {
		return err
	}
	return read(t)
}

// waiting are the systems on which something waits to be undone.
func (u *Undoer) waiting(ctx context.Context) (systems []fsm.Key, err error) {
	err = u.on(ctx, func(t *tx) error {
		keys, err := t.view.Keys(fsm.Effects, nil)
		if err != nil {
			return err
		}
		for keys.Next() {
			systems = append(systems, keys.Key())
		}
		return keys.Close()
	})
	return systems, err
}

// A job is one effect to undo.
type job struct {
	lease fsm.Key
	act   func(context.Context) error
	err   error // that it could not be prepared; of its last attempt
}

// clear undoes what waits on one system, until nothing does.
func (u *Undoer) clear(ctx context.Context, system fsm.Key) {
	pauses := &backoff{first: u.pace.First, most: u.pace.Most}
	apart := map[string]*backoff{} // leases that fail while others of the system do not
	failing := false
	defer func() { u.note(0, 0, failing, false) }()
	for ctx.Err() == nil {
		jobs, more, err := u.jobs(ctx, system, apart)
		if err != nil || len(jobs) == 0 && !more {
			return
		}
		done := u.attempt(ctx, jobs)
		wasFailing := failing
		failing = len(jobs) > 0 && done == 0
		u.note(done, len(jobs)-done, wasFailing, failing)
		switch {
		case ctx.Err() != nil:
			return
		case failing:
			u.logger.Warn("effects of leases cannot be undone; trying on", "failed", len(jobs), "error", jobs[0].err)
			rest(ctx, pauses.next())
			continue
		case len(jobs) == 0: // all that waits has its own pause
			rest(ctx, u.pace.First)
		}
		pauses.reset()
		for _, j := range jobs {
			if j.err == nil {
				delete(apart, string(j.lease))
				continue
			}
			b := apart[string(j.lease)]
			if b == nil {
				b = &backoff{first: u.pace.First, most: u.pace.Most}
				apart[string(j.lease)] = b
			}
			b.postpone(time.Now())
			u.logger.Warn("the effect of a lease cannot be undone; trying on", "error", j.err)
		}
	}
}

// maxApart bounds how many leases one look passes over because they have a pause.
const maxApart = 4096

// jobs are the next effects of a system, and whether more wait that have a pause.
func (u *Undoer) jobs(ctx context.Context, system fsm.Key, apart map[string]*backoff) (jobs []*job, more bool, err error) {
	err = u.on(ctx, func(t *tx) error {
		waiting, err := t.view.Waiting(system)
		if err != nil {
			return err
		}
		for passed := 0; len(jobs) < u.pace.Parallel && passed < maxApart && waiting.Next(); {
			key := waiting.Key()
			if b := apart[string(key)]; b != nil && time.Now().Before(b.until) {
				more, passed = true, passed+1
				continue
			}
			j := &job{lease: key}
			j.act, j.err = t.undoing(ctx, key)
			jobs = append(jobs, j)
		}
		return waiting.Close()
	})
	return jobs, more, err
}

// undoing returns what undoes the effect of a lease.
func (t *tx) undoing(ctx context.Context, key fsm.Key) (func(context.Context) error, error) {
	l, _, err := t.view.Lease(key)
	if err != nil || l == nil {
		return nil, firstError(err, errors.New("a lease that waits to be undone is not there"))
	}
	data, err := t.leaseData(key, l)
	if err != nil {
		return nil, err
	}
	backend, call, err := t.effects(ctx, data.Mount)
	if err != nil {
		return nil, err
	}
	return backend.Undo(call, data.Undo)
}

// attempt does the jobs at once and returns how many succeeded. What was undone is
// told to the ledger; if that fails it is undone again, which does no harm.
func (u *Undoer) attempt(ctx context.Context, jobs []*job) (done int) {
	var all sync.WaitGroup
	for _, j := range jobs {
		if j.err != nil {
			continue
		}
		all.Go(func() {
			acting, cancel := context.WithTimeout(ctx, u.pace.Attempt)
			defer cancel()
			if j.err = j.act(acting); j.err == nil {
				_, j.err = u.pipeline.ledger.Propose(acting, &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpEndLease, Key: j.lease}}})
			}
		})
	}
	all.Wait()
	for _, j := range jobs {
		if j.err == nil {
			done++
		}
	}
	return done
}

func (u *Undoer) note(undone, failed int, wasFailing, isFailing bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.counts.Undone += uint64(undone)
	u.counts.Failed += uint64(failed)
	if wasFailing {
		u.counts.Failing--
	}
	if isFailing {
		u.counts.Failing++
	}
}

// endMounts removes mounts that were disabled and whose last effect is undone.
func (u *Undoer) endMounts(ctx context.Context) {
	var batch *fsm.Batch
	err := u.on(ctx, func(t *tx) error {
		err := t.purgeEnding()
		batch = &t.batch
		return err
	})
	if err == nil && len(batch.Operations) > 0 {
		_, err = u.pipeline.ledger.Propose(ctx, batch)
	}
	if err != nil && ctx.Err() == nil {
		u.logger.Debug("removing a disabled mount failed; it is tried again", "error", err)
	}
}

// backoff makes pauses longer and longer, at random, so that those who wait for the
// same thing do not come back together.
type backoff struct {
	first, most, last time.Duration
	until             time.Time
}

func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, b.first), b.most)
	return b.last/2 + rand.N(b.last/2+1)
}

func (b *backoff) postpone(now time.Time) { b.until = now.Add(b.next()) }

func (b *backoff) reset() { b.last = 0 }

// rest waits for d or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
