package core_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// world is what lies outside: accounts by name, on systems that can be down.
type world struct {
	mu       sync.Mutex
	changed  chan struct{}        // closed and made anew with every change
	accounts map[string]time.Time // until when each is good; "system/name"
	down     map[string]bool      // systems
	acted    func() error         // runs after an account was made
	undone   int
}

func newWorld() *world {
	return &world{changed: make(chan struct{}), accounts: map[string]time.Time{}, down: map[string]bool{}}
}

var errDown = errors.New("connection refused")

func (w *world) change(system string, f func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down[system] {
		return &engine.OutsideError{System: system, Why: "it cannot be reached", Cause: errDown}
	}
	f()
	close(w.changed)
	w.changed = make(chan struct{})
	return nil
}

func (w *world) setDown(system string, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[system] = down
}

func (w *world) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.accounts))
}

// await waits until the accounts are those.
func (w *world) await(t *testing.T, want ...string) {
	t.Helper()
	for {
		w.mu.Lock()
		have, changed := slices.Sorted(maps.Keys(w.accounts)), w.changed
		w.mu.Unlock()
		if slices.Equal(have, want) {
			return
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatalf("outside there is %q, want %q", have, want)
		}
	}
}

// agency is an engine whose credentials are accounts in the world: "creds/SYSTEM"
// makes one.
type agency struct{ *world }

func (agency) Type() string    { return "agency" }
func (agency) Summary() string { return "accounts elsewhere" }

type credential struct {
	System string `path:"system"`
	Name   string `json:"name"`
	Fixed  bool   `json:"fixed"`
}

type account struct {
	Name string `json:"name"`
}

func (a agency) Routes(map[string]string) ([]engine.Route, error) {
	return []engine.Route{engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "creds/{system}", Writes: true, Parallel: true, Summary: "make an account"}, a.make),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "moves/{system}", Writes: true, Summary: "change something in two commits"}, a.move)}, nil
}

// move keeps its number before it is used outside, and settles when that is done.
func (a agency) move(c *engine.Call, r *credential) (*account, error) {
	var kept string
	there, err := engine.GetJSON(c, engine.Path{"move"}, &kept)
	if err != nil {
		return nil, err
	}
	if !there {
		c.Again()
		return &account{"too early"}, engine.PutJSON(c, engine.Path{"move"}, r.Name)
	}
	c.Before(func(context.Context) error {
		return a.change(r.System, func() { a.accounts["moved to "+kept] = time.Time{} })
	})
	return &account{kept}, c.DeleteRecord(engine.Path{"move"})
}

func (a agency) make(c *engine.Call, r *credential) (*account, error) {
	name := r.System + "/" + r.Name
	c.Intend(engine.Intent{System: r.System, Undo: []byte(name), Within: time.Minute, TTL: time.Hour, Renewable: !r.Fixed, Act: func(context.Context) error {
		if err := a.change(r.System, func() { a.accounts[name] = time.Time{} }); err != nil {
			return err
		}
		if a.acted != nil {
			return a.acted()
		}
		return nil
	}})
	return &account{r.Name}, nil
}

func (a agency) Undo(_ *engine.Call, undo []byte) (func(context.Context) error, error) {
	system, _, _ := strings.Cut(string(undo), "/")
	return func(context.Context) error {
		return a.change(system, func() {
			delete(a.accounts, string(undo))
			a.undone++
		})
	}, nil
}

func (a agency) Renew(_ *engine.Call, undo []byte, until time.Time) (func(context.Context) error, error) {
	system, _, _ := strings.Cut(string(undo), "/")
	return func(context.Context) error { return a.change(system, func() { a.accounts[string(undo)] = until }) }, nil
}

var _ engine.Effects = agency{}

// newAgency is an office with an agency mounted, and nobody who undoes yet.
func newAgency(t *testing.T) (*office, *world) {
	t.Helper()
	w := newWorld()
	o := newOfficeWith(t, map[string]engine.Backend{"agency": agency{w}})
	o.must(o.root, engine.VerbWrite, "sys/mounts/acct", `{"type": "agency"}`)
	return o, w
}

// undo runs an Undoer until the test ends.
func (o *office) undo() *core.Undoer {
	u := core.NewUndoer(o.pipeline, slog.New(slog.NewTextHandler(io.Discard, nil)), core.Pace{Look: time.Millisecond, First: time.Millisecond, Most: 4 * time.Millisecond})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		u.Run(ctx)
	}()
	o.t.Cleanup(func() {
		stop()
		<-done
	})
	return u
}

// awaitLeases waits until the mount has so many leases, those that wait included.
func (o *office) awaitLeases(want uint64) {
	o.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		counts := o.must(o.root, engine.VerbRead, "sys/leases/count", "").Data
		if n := fmt.Sprintf("%s", counts); strings.Contains(n, fmt.Sprintf(`"lease_count":%d,`, want)) {
			return
		} else if time.Now().After(deadline) {
			o.t.Fatalf("leases: %s, want %d", n, want)
		}
	}
}

// A credential comes with a lease, and goes with it.
func TestEffectsGoWithTheirLease(t *testing.T) {
	o, w := newAgency(t)
	made := o.must(o.root, engine.VerbWrite, "acct/creds/pg", `{"name": "a"}`)
	if !strings.HasPrefix(made.LeaseID, "acct/creds/pg/") || made.LeaseDuration != time.Hour || !made.Renewable {
		t.Errorf("answered %+v", made.Answer)
	}
	w.await(t, "pg/a")
	o.awaitLeases(1)
	o.undo()
	o.must(o.root, engine.VerbWrite, "sys/leases/revoke", `{"lease_id": "`+made.LeaseID+`"}`)
	w.await(t)
	o.awaitLeases(0)
	if _, err := o.do(o.root, engine.VerbWrite, "sys/leases/renew", `{"lease_id": "`+made.LeaseID+`"}`); err == nil {
		t.Error("renewed after it was revoked")
	}
}

// A renewal acts outside before it commits, and does not commit if that fails.
func TestRenewalsActFirst(t *testing.T) {
	o, w := newAgency(t)
	made := o.must(o.root, engine.VerbWrite, "acct/creds/pg", `{"name": "a"}`)
	renew := func(id string) error {
		_, err := o.do(o.root, engine.VerbWrite, "sys/leases/renew", `{"lease_id": "`+id+`", "increment": "2h"}`)
		return err
	}
	if err := renew(made.LeaseID); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	until := w.accounts["pg/a"]
	w.mu.Unlock()
	found := o.must(o.root, engine.VerbWrite, "sys/leases/lookup", `{"lease_id": "`+made.LeaseID+`"}`)
	if text := fmt.Sprintf("%s", found.Data); until.IsZero() || !strings.Contains(text, `"ttl":7200`) {
		t.Errorf("the account is good until %v, the lease is %s", until, text)
	}
	w.setDown("pg", true)
	wants(t, renew(made.LeaseID), conclavev1.Reason_REASON_OUTSIDE)
	fixed := o.must(o.root, engine.VerbWrite, "acct/creds/redis", `{"name": "b", "fixed": true}`)
	wants(t, renew(fixed.LeaseID), conclavev1.Reason_REASON_INVALID)
}

// Whatever fails once the intent is committed, the caller gets an error and nothing
// stays behind.
func TestFailedIntentsLeaveNothing(t *testing.T) {
	for name, fail := range map[string]func(o *office, w *world){
		"the system is down":          func(_ *office, w *world) { w.setDown("pg", true) },
		"half of it was done":         func(_ *office, w *world) { w.acted = func() error { return errors.New("and then it broke") } },
		"the confirmation is unknown": func(o *office, _ *world) { o.ledger.refuse = refuseKind(fsm.OpConfirmLease, fsm.ErrUnknown) },
		"the confirmation is lost":    func(o *office, _ *world) { o.ledger.refuse = refuseKind(fsm.OpConfirmLease, fsm.ErrNotDone) },
		"its mount is disabled meanwhile": func(o *office, w *world) {
			w.acted = func() error { o.must(o.root, engine.VerbDelete, "sys/mounts/acct", ""); return nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, w := newAgency(t)
			fail(o, w)
			if made, err := o.do(o.root, engine.VerbWrite, "acct/creds/pg", `{"name": "a"}`); err == nil {
				t.Fatalf("answered %+v", made)
			}
			w.setDown("pg", false)
			o.undo()
			w.await(t)
			o.awaitLeases(0)
		})
	}
}

// A process that dies between the act and the confirmation leaves the lease as the
// only trace: its deadline has the effect undone.
func TestDeadlinesUndo(t *testing.T) {
	o, w := newAgency(t)
	o.ledger.refuse = func(b *fsm.Batch) error {
		if k := b.Operations[0].Kind; k == fsm.OpConfirmLease || k == fsm.OpRevokeLease {
			return fsm.ErrUnknown
		}
		return nil
	}
	if _, err := o.do(o.root, engine.VerbWrite, "acct/creds/pg", `{"name": "a"}`); err == nil {
		t.Fatal("answered")
	}
	o.ledger.refuse = nil
	o.undo()
	w.await(t, "pg/a")
	o.ledger.Ledger.(*core.Single).Advance(2 * time.Minute)
	w.await(t)
	o.awaitLeases(0)
}

// What a token was given goes with it; if that happens in the middle, the caller gets
// nothing.
func TestEffectsGoWithTheirToken(t *testing.T) {
	o, w := newAgency(t)
	c, auth := o.token(`{"policies": ["root"]}`)
	revoke := func() {
		o.must(o.root, engine.VerbWrite, "auth/token/revoke-accessor", `{"accessor": "`+auth.Token.Accessor+`"}`)
	}
	o.must(c, engine.VerbWrite, "acct/creds/pg", `{"name": "a"}`)
	w.acted = func() error { revoke(); return nil }
	if made, err := o.do(c, engine.VerbWrite, "acct/creds/pg", `{"name": "b"}`); err == nil {
		t.Errorf("answered %+v to a token that was revoked", made)
	}
	w.await(t, "pg/a", "pg/b")
	o.undo()
	w.await(t)
	o.awaitLeases(0)
}

// A system that is down is tried again until it is back; another is not kept waiting.
func TestSystemsAreUndoneApart(t *testing.T) {
	o, w := newAgency(t)
	for i := range 30 {
		o.must(o.root, engine.VerbWrite, "acct/creds/pg", fmt.Sprintf(`{"name": "a%d"}`, i))
	}
	o.must(o.root, engine.VerbWrite, "acct/creds/redis", `{"name": "b"}`)
	w.setDown("pg", true)
	u := o.undo()
	o.must(o.root, engine.VerbWrite, "sys/leases/revoke-prefix/acct", "")
	for len(w.names()) > 30 {
		w.mu.Lock()
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(10 * time.Second):
			t.Fatalf("outside there is %q", w.names())
		}
	}
	for deadline := time.Now().Add(10 * time.Second); u.Counts().Failing == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nobody says that the system fails")
		}
	}
	w.setDown("pg", false)
	w.await(t)
	o.awaitLeases(0)
	if c := u.Counts(); c.Undone < 31 || c.Failed == 0 {
		t.Errorf("counted %+v", c)
	}
}

// A mount that is disabled is gone at once, and keeps what undoing needs until all is
// undone; the path is free for another one meanwhile.
func TestDisabledMountsUndoFirst(t *testing.T) {
	o, w := newAgency(t)
	before := o.rows()
	o.must(o.root, engine.VerbWrite, "acct/creds/pg", `{"name": "a"}`)
	w.setDown("pg", true)
	o.must(o.root, engine.VerbDelete, "sys/mounts/acct", "")
	if _, err := o.do(o.root, engine.VerbWrite, "acct/creds/pg", `{"name": "b"}`); err == nil {
		t.Error("a disabled mount answers")
	}
	o.must(o.root, engine.VerbWrite, "sys/mounts/acct", `{"type": "agency"}`)
	o.must(o.root, engine.VerbWrite, "acct/creds/redis", `{"name": "c"}`)
	w.setDown("pg", false)
	o.undo()
	w.await(t, "redis/c")
	o.awaitLeases(1)
	if now := o.rows(); now != before {
		t.Errorf("%d rows, %d before", now, before)
	}
}

// What takes two commits is one request: one use of a token and one answer, the last one.
// What happens outside before a commit must succeed, and is done again by whoever finds
// it half done.
func TestRequestsOfTwoCommits(t *testing.T) {
	o, w := newAgency(t)
	move := func(c core.Caller, name string) (*core.Reply, error) {
		return o.do(c, engine.VerbWrite, "acct/moves/pg", `{"name": "`+name+`"}`)
	}
	w.setDown("pg", true)
	before := o.rows()
	_, err := move(o.root, "a")
	wants(t, err, conclavev1.Reason_REASON_OUTSIDE)
	if now := o.rows(); now != before+1 {
		t.Errorf("%d rows, want %d: the first commit stands", now, before+1)
	}
	w.setDown("pg", false)
	once, _ := o.token(`{"policies": ["root"], "num_uses": 1}`)
	made, err := move(once, "b")
	if err != nil || fmt.Sprintf("%s", made.Data) != `{"name":"a"}` {
		t.Fatalf("answered %+v, %v", made, err)
	}
	w.await(t, "moved to a")
	if _, err := move(once, "c"); err == nil {
		t.Error("a token for one use has two")
	}
	twice, _ := o.token(`{"policies": ["root"], "num_uses": 2}`)
	for range 2 {
		if _, err := move(twice, "d"); err != nil {
			t.Errorf("a token for two uses: %v", err)
		}
	}
	// Neither happens when the commit before it fails.
	o.ledger.refuse = refuseKind(fsm.OpPutRecord, fsm.ErrNotDone)
	if _, err := move(o.root, "e"); err == nil {
		t.Error("answered without a commit")
	}
	w.await(t, "moved to a", "moved to d")
}
