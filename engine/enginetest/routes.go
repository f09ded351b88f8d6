package enginetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// An Ask is a request by verb and path, as a transport hands it on.
type Ask struct {
	Verb  engine.Verb
	Path  string // relative to the mount
	Query url.Values
	Body  string // a JSON object; "": none
}

// Asking makes an Ask. The path may have a query.
func Asking(verb engine.Verb, path, body string) Ask {
	path, query, _ := strings.Cut(path, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		panic(fmt.Sprintf("enginetest: query of an ask: %v", err)) // the test is wrong
	}
	return Ask{Verb: verb, Path: path, Query: values, Body: body}
}

func (a Ask) String() string {
	path := a.Path
	if len(a.Query) > 0 {
		path += "?" + a.Query.Encode()
	}
	return strings.TrimSpace(a.Verb.String() + " " + path + " " + a.Body)
}

func (a Ask) input() (engine.Input, error) {
	in := engine.Input{Query: a.Query}
	if a.Body == "" {
		return in, nil
	}
	return in, json.Unmarshal([]byte(a.Body), &in.Body)
}

// RouteOptions tell [TestRoutes] what it cannot know of a backend. Zero fields
// have the stated default.
type RouteOptions struct {
	// Prepare fills the mount [Mount] of an empty store. Default: it stays empty.
	Prepare func(testing.TB, *Store)
	// Options are those of the mount. Default: none.
	Options map[string]string
	// Token is the id of the caller's token. Default: "token".
	Token string
	// Refusal tells whether an error is one that core knows to explain, beside
	// those of package engine. Default: none is.
	Refusal func(error) bool
}

func (o RouteOptions) token() string {
	if o.Token == "" {
		return "token"
	}
	return o.Token
}

func (o RouteOptions) mount(b engine.Backend) engine.Mount {
	return engine.Mount{ID: Mount, Path: Mount + "/", Accessor: "accessor", Type: b.Type(), Options: o.Options,
		DefaultTTL: 768 * time.Hour, MaxTTL: 768 * time.Hour}
}

// isRefusal tells whether core can explain an error to the caller.
func (o RouteOptions) isRefusal(err error) bool {
	var (
		path    *engine.PathError
		invalid *engine.InvalidError
		missing *engine.NotFoundError
		gone    *engine.GoneError
		cas     *engine.CheckAndSetError
		large   *engine.TooLargeError
	)
	return errors.As(err, &path) || errors.As(err, &invalid) || errors.As(err, &missing) || errors.As(err, &gone) ||
		errors.As(err, &cas) || errors.As(err, &large) || o.Refusal != nil && o.Refusal(err)
}

// desk answers asks over a store, as core does over the ledger.
type desk struct {
	RouteOptions
	backend engine.Backend
	routes  *engine.Routes
	store   *Store
}

func newDesk(t testing.TB, b engine.Backend, o RouteOptions) *desk {
	t.Helper()
	table, err := b.Routes(o.Options)
	if err != nil {
		t.Fatalf("routes of a mount with the options %v: %v", o.Options, err)
	}
	d := &desk{RouteOptions: o, backend: b, routes: engine.CompileRoutes(table), store: NewStore(startOfTime)}
	if o.Prepare != nil {
		o.Prepare(t, d.store)
	}
	return d
}

// served is what one run of a route did.
type served struct {
	route   *engine.Route // nil: none has the path, or none has this verb on it
	known   bool          // some route has the path
	answer  engine.Answer
	creates bool
	err     error
	probe   *Probe
	tx      *Tx
}

// staged tells whether there is something to commit: the lease of an effect is staged
// by core.
func (s served) staged() bool { return len(s.probe.Staged) > 0 || s.answer.Intent != nil }

// serve runs an ask once on the newest view. Nothing is committed.
func (d *desk) serve(p *Probe, a Ask) (s served) {
	s.tx = d.store.Begin(Mount)
	s.tx.Token, s.probe, p.Tx = d.token(), p, s.tx
	match, known := d.routes.Find(a.Verb, a.Path)
	s.known, s.route = known, match.Route
	if s.route == nil {
		return s
	}
	in, err := a.input()
	if err != nil {
		s.err = &engine.InvalidError{Why: "the body is no JSON object"} // a transport refuses it
		return s
	}
	request, err := match.Bind(in)
	if err != nil {
		s.err = err
		return s
	}
	call := &engine.Call{Tx: p, Context: context.Background(), Mount: d.mount(d.backend), Rand: rand.NewChaCha8([32]byte{}),
		Caller: engine.Caller{DisplayName: "tester", TokenID: d.token(), Address: netip.MustParseAddr("192.0.2.1")}}
	if s.creates, s.err = match.Creates(call, request); s.err == nil {
		s.answer, s.err = match.Serve(call, request)
	}
	return s
}

// do is serve with a commit, and the answer finished.
func (d *desk) do(a Ask) (s served) {
	if s = d.serve(&Probe{}, a); s.err != nil || s.route == nil {
		return s
	}
	if s.err = s.tx.Commit(); s.err != nil {
		return s
	}
	if data, ok := s.answer.Data.(engine.Committer); ok {
		data.Committed(s.tx.Committed())
	}
	return s
}

// TestRoutes checks everything that engine.Route promises of a backend's table:
// that routes are declared well, none hides another, and all their fields are
// documented; that variables of the path are bound; that a route stages something
// only if it says so; that a run depends on nothing but its view and its request;
// that an error of the transaction comes back unchanged and ends the run; that
// what is staged can be committed, and the answer spelled before and after; and
// that nothing hostile makes a route panic, or repeat in an error or a warning
// what it was told.
//
// Every route must be among the asks with one that succeeds on a store as Prepare
// leaves it; some should be refused there.
func TestRoutes(t *testing.T, b engine.Backend, o RouteOptions, asks ...Ask) {
	d := newDesk(t, b, o)
	t.Run("declaration", func(t *testing.T) { declaredWell(t, d) })
	t.Run("coverage", func(t *testing.T) { covered(t, d, asks) })
	for _, a := range asks {
		t.Run(strings.ReplaceAll(a.Verb.String()+" "+a.Path, "/", "|"), func(t *testing.T) {
			s := &routeSuite{t, d, a}
			s.pure()
			s.errors()
			s.commits()
			s.atOnce()
			s.hostile()
		})
	}
}

// covered: requests that are all refused would prove nothing.
func covered(t *testing.T, d *desk, asks []Ask) {
	name := func(r *engine.Route) string { return r.Verb.String() + " " + r.Path }
	succeeded, wrote := map[string]bool{}, map[string]bool{}
	for _, a := range asks {
		s := d.serve(&Probe{}, a)
		if s.route == nil {
			t.Errorf("%v: no route has it", a)
			continue
		}
		succeeded[name(s.route)] = succeeded[name(s.route)] || s.err == nil
		wrote[name(s.route)] = wrote[name(s.route)] || s.err == nil && s.staged()
	}
	for _, r := range d.routes.All() {
		switch {
		case !succeeded[name(&r)]:
			t.Errorf("%s: no ask succeeds", name(&r))
		case r.Writes && !wrote[name(&r)]:
			t.Errorf("%s says that it writes, and no ask makes it", name(&r))
		}
	}
}

// routeSuite tests one ask over a store that it does not change.
type routeSuite struct {
	*testing.T
	*desk
	ask Ask
}

// run is serve for which a panic fails the test.
func (s *routeSuite) run(p *Probe, a Ask) served {
	defer func() {
		if panicked := recover(); panicked != nil {
			s.Fatalf("%.200v: panic: %v", a, panicked)
		}
	}()
	return s.serve(p, a)
}

// spelled is the answer as a client sees it.
func spelled(s served) string {
	if s.err != nil {
		return fmt.Sprintf("%T %v", s.err, s.err)
	}
	data, err := json.Marshal(s.answer.Data)
	return fmt.Sprintf("%s %v missing %v for %v login %+v creates %v %v", data, s.answer.Warnings, s.answer.Missing,
		s.answer.LeaseDuration, s.answer.Login, s.creates, err)
}

// differ tells in what two runs differ, "" in nothing.
func differ(a, b served) string {
	switch x, y := spelled(a), spelled(b); {
	case x != y:
		return fmt.Sprintf("answer %s and answer %s", x, y)
	case a.err == nil && !reflect.DeepEqual(a.probe.Staged, b.probe.Staged):
		return fmt.Sprintf("staged %+v and staged %+v", a.probe.Staged, b.probe.Staged)
	}
	return ""
}

// harmless is what holds after every run.
func (s *routeSuite) harmless(o served, a Ask) {
	s.Helper()
	if o.route == nil {
		return
	}
	if !o.route.Writes && o.staged() {
		s.Errorf("%.200v: a route that only reads staged %+v", a, o.probe.Staged)
	}
	if o.err != nil && !s.isRefusal(o.err) {
		s.Errorf("%.200v: %T %v is no refusal that core could explain", a, o.err, o.err)
	}
	if o.err == nil {
		if _, err := json.Marshal(o.answer.Data); err != nil {
			s.Errorf("%.200v: the answer cannot be spelled: %v", a, err)
		}
	}
}

// pure: the same ask on an equal view has the same outcome, whatever was asked in
// between.
func (s *routeSuite) pure() {
	first := s.run(&Probe{}, s.ask)
	elsewhere := *s.desk
	elsewhere.store = NewStore(startOfTime.Add(1))
	(&routeSuite{s.T, &elsewhere, s.ask}).run(&Probe{}, s.ask)
	if diff := differ(first, s.run(&Probe{}, s.ask)); diff != "" {
		s.Errorf("two runs on equal views differ: %s", diff)
	}
	s.harmless(first, s.ask)
}

// errors: an error of any call of the transaction comes back unchanged, and no
// further call is made.
func (s *routeSuite) errors() {
	calls := s.run(&Probe{}, s.ask).probe.Calls
	for at := 1; at <= calls; at++ {
		injected := &testError{}
		o := s.run(&Probe{FailAt: at, Err: injected}, s.ask)
		if o.err != error(injected) {
			s.Errorf("call %d of %d failed, and the route returned %v, want that error unchanged", at, calls, o.err)
		}
		if o.probe.Calls != at {
			s.Errorf("call %d of %d failed, and the route made %d", at, calls, o.probe.Calls)
		}
	}
}

// commits: what is staged can be committed; the answer may be told of the commit
// twice, and the last one counts.
func (s *routeSuite) commits() {
	own := *s.desk
	own.store = s.store.Fork()
	o := (&routeSuite{s.T, &own, s.ask}).run(&Probe{}, s.ask)
	if o.err != nil || o.route == nil {
		return
	}
	if err := o.tx.Commit(); err != nil {
		s.Errorf("what was staged cannot be committed: %v", err)
	}
	data, ok := o.answer.Data.(engine.Committer)
	if !ok {
		return
	}
	commit := engine.Commit{Index: 77, Time: startOfTime.Add(88)}
	data.Committed(commit)
	once := spelled(o)
	data.Committed(engine.Commit{})
	data.Committed(commit)
	if twice := spelled(o); once != twice {
		s.Errorf("told of the commit once the answer is %s, told again %s", once, twice)
	}
}

// atOnce: a backend answers many asks at a time. (The race detector sees more.)
func (s *routeSuite) atOnce() {
	want := s.run(&Probe{}, s.ask)
	differences := make(chan string, 4)
	for range cap(differences) {
		go func() { differences <- differ(want, s.serve(&Probe{}, s.ask)) }()
	}
	for range cap(differences) {
		if diff := <-differences; diff != "" {
			s.Errorf("alone and beside others the outcomes differ: %s", diff)
		}
	}
}

// Answer carries out one ask on a store and commits it, for a test that prepares
// something. The error is the route's or the commit's; a path or a verb without a
// route is one, too.
func Answer(store *Store, b engine.Backend, o RouteOptions, a Ask) error {
	table, err := b.Routes(o.Options)
	if err != nil {
		return err
	}
	d := &desk{RouteOptions: o, backend: b, routes: engine.CompileRoutes(table), store: store}
	s := d.do(a)
	if s.route == nil {
		return fmt.Errorf("no route answers %v", a)
	}
	return s.err
}
