package authtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
)

// A Spec is an auth method with requests to try it with.
type Spec struct {
	Backend engine.Backend
	// Prepare is done first, in order; each request must succeed.
	Prepare []Request
	// Requests are tried on what Prepare left, each by itself. One for every route
	// must succeed; some should be refused.
	Requests []Request
	// Good is a login that succeeds on what Prepare left.
	Good Request
	// Wrong are logins with wrong credentials of somebody who exists, Unknown are
	// the same of somebody who does not: by answer and effort they are alike.
	Wrong, Unknown []Request
	// Secrets are in the requests, and must not be in what is stored or said.
	Secrets []string
	// Work counts what a login costs beside its transaction, such as hashings;
	// nil: there is nothing.
	Work func() uint64
}

// Test holds a method to the contract: see the names of the parts.
func Test(t *testing.T, spec Spec) {
	for _, part := range parts {
		t.Run(part.name, func(t *testing.T) { part.check(newSuite(t, spec), t) })
	}
}

var parts = []struct {
	name  string
	check func(*suite, testing.TB)
}{
	{"the table is complete", (*suite).table},
	{"handlers are pure", (*suite).pure},
	{"errors of the transaction come back unchanged", (*suite).errors},
	{"hostile input is refused without a word of it", (*suite).hostile},
	{"a login says who it is", (*suite).login},
	{"who exists cannot be told from who does not", (*suite).alike},
	{"no secret is stored or told", (*suite).secrets},
}

func newSuite(t testing.TB, spec Spec) *suite {
	t.Helper()
	m := NewMount(t, spec.Backend, nil)
	m.Must(t, Dice(1), spec.Prepare...)
	return &suite{spec, m}
}

type suite struct {
	Spec
	mount *Mount
}

func (s *suite) all() []Request {
	all := append([]Request{s.Good}, s.Requests...)
	return append(append(all, s.Wrong...), s.Unknown...)
}

// outcome is what one run came to.
type outcome struct {
	answer engine.Answer
	err    error
	probe  *enginetest.Probe
}

func (s *suite) bind(t testing.TB, r Request) *Bound {
	t.Helper()
	b, err := s.mount.Bind(r)
	if err != nil {
		t.Fatalf("%v %s: %v", r.Verb, r.Path, err)
	}
	return b
}

// run runs a request on the state that Prepare left, and commits nothing.
func (s *suite) run(t testing.TB, b *Bound, probe *enginetest.Probe) (o outcome) {
	t.Helper()
	defer func() {
		if panicked := recover(); panicked != nil {
			t.Fatalf("%v %s: panic: %v", b.req.Verb, b.req.Path, panicked)
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	probe.Tx = s.mount.Store.Begin(mountID)
	o.probe = probe
	o.answer, o.err = s.mount.Run(ctx, probe, Dice(2), b)
	return o
}

// refusal is the error that the caller gets.
func (o outcome) refusal() error {
	if o.err != nil {
		return o.err
	}
	return o.answer.Refusal
}

// table: every route has a summary and a request that succeeds, only logins are open, and those
// write, in parallel.
func (s *suite) table(t testing.TB) {
	succeeded := map[string]bool{}
	for _, r := range s.all() {
		b := s.bind(t, r)
		if o := s.run(t, b, &enginetest.Probe{}); o.refusal() == nil {
			succeeded[fmt.Sprint(b.Match.Route.Verb, b.Match.Route.Path)] = true
		}
	}
	for _, r := range s.mount.Routes.All() {
		if !succeeded[fmt.Sprint(r.Verb, r.Path)] {
			t.Errorf("no request to %v %s succeeds", r.Verb, r.Path)
		}
		if r.Summary == "" || strings.HasSuffix(r.Summary, ".") {
			t.Errorf("%v %s has no line for a summary, or one with a full stop", r.Verb, r.Path)
		}
		if r.Open != strings.HasPrefix(r.Path, "login") || r.Open && (!r.Writes || !r.Parallel || r.Sudo) {
			t.Errorf("%v %s: only logins are open, and they write, in parallel", r.Verb, r.Path)
		}
	}
}

// pure: two runs on equal views have equal outcomes, whatever ran in between, and
// leave the request as it was. What only reads stages nothing.
func (s *suite) pure(t testing.TB) {
	for _, r := range s.all() {
		b := s.bind(t, r)
		first := s.run(t, b, &enginetest.Probe{})
		if again := s.bind(t, r); !reflect.DeepEqual(b.In, again.In) {
			t.Errorf("%v %s changed its request", r.Verb, r.Path)
		}
		for _, other := range s.all() {
			if other.Path != r.Path {
				s.run(t, s.bind(t, other), &enginetest.Probe{})
				break
			}
		}
		second := s.run(t, s.bind(t, r), &enginetest.Probe{})
		if !reflect.DeepEqual(first.answer, second.answer) || !reflect.DeepEqual(first.err, second.err) ||
			!reflect.DeepEqual(first.probe.Staged, second.probe.Staged) {
			t.Errorf("%v %s: two runs differ:\n%+v\n%+v", r.Verb, r.Path, first, second)
		}
		if !b.Match.Route.Writes && len(first.probe.Staged) > 0 {
			t.Errorf("%v %s only reads, and stages %+v", r.Verb, r.Path, first.probe.Staged)
		}
	}
}

// errors: an error of any call of the transaction comes back unchanged, and no
// further call is made.
func (s *suite) errors(t testing.TB) {
	injected := errors.New("injected")
	for _, r := range s.all() {
		calls := s.run(t, s.bind(t, r), &enginetest.Probe{}).probe.Calls
		for at := 1; at <= calls; at++ {
			o := s.run(t, s.bind(t, r), &enginetest.Probe{FailAt: at, Err: injected})
			if o.err != injected || o.probe.Calls != at {
				t.Errorf("%v %s: call %d of %d failed; the handler made %d and returned %v", r.Verb, r.Path, at, calls, o.probe.Calls, o.err)
			}
		}
	}
}

// login: a login that succeeds names its alias and display name, and answers with
// nothing but the token to be.
func (s *suite) login(t testing.TB) {
	o := s.run(t, s.bind(t, s.Good), &enginetest.Probe{})
	if o.refusal() != nil || o.answer.Login == nil {
		t.Fatalf("the good login: %v", o.refusal())
	}
	l := o.answer.Login
	if l.Alias == "" || !strings.HasPrefix(l.DisplayName, s.Backend.Type()) || len(l.Metadata) == 0 || o.answer.Data != nil {
		t.Errorf("the good login says %+v", o.answer)
	}
	for _, r := range append(s.Wrong, s.Unknown...) {
		if o := s.run(t, s.bind(t, r), &enginetest.Probe{}); o.refusal() == nil || o.answer.Login != nil {
			t.Errorf("%s %s is admitted", r.Path, r.Body)
		}
	}
}

// alike: wrong credentials of a name that exists and of one that does not get the
// same error, after the same calls of the transaction, staging the same, at the
// same cost.
func (s *suite) alike(t testing.TB) {
	if len(s.Wrong) == 0 || len(s.Wrong) != len(s.Unknown) {
		t.Fatal("the method brings no pairs of wrong and unknown")
	}
	for i := range s.Wrong {
		wrong, unknown := s.effort(t, s.Wrong[i]), s.effort(t, s.Unknown[i])
		if wrong != unknown {
			t.Errorf("%s %s\nexists:         %s\ndoes not exist: %s", s.Wrong[i].Path, s.Wrong[i].Body, wrong, unknown)
		}
	}
}

// effort spells what a refused login comes to and takes.
func (s *suite) effort(t testing.TB, r Request) string {
	t.Helper()
	work := uint64(0)
	if s.Work != nil {
		work = s.Work()
	}
	o := s.run(t, s.bind(t, r), &enginetest.Probe{})
	if s.Work != nil {
		work = s.Work() - work
	}
	kind := auth.Kind(0)
	var credential *auth.CredentialError
	if errors.As(o.refusal(), &credential) {
		kind = credential.Kind
		if credential.Why == "" {
			t.Errorf("%s: the audit log is not told why", r.Path)
		}
	}
	var calls, staged []string
	for _, p := range o.probe.Touched {
		calls = append(calls, fmt.Sprint(len(p)))
	}
	for _, c := range o.probe.Staged {
		staged = append(staged, fmt.Sprintf("%s %d bytes for %v", c.Call, len(c.Value), c.TTL))
	}
	return fmt.Sprintf("%v %q, calls %v, staged %v, work %d", kind, o.refusal(), calls, staged, work)
}

// secrets: what is staged holds no secret, neither in a value nor in a name, and
// no error or login tells one.
func (s *suite) secrets(t testing.TB) {
	m := NewMount(t, s.Backend, nil)
	check := func(where, what string) {
		for _, secret := range s.Secrets {
			if strings.Contains(what, secret) {
				t.Errorf("%s holds a secret", where)
			}
		}
	}
	for _, r := range append(append([]Request(nil), s.Prepare...), s.all()...) {
		b, err := m.Bind(r)
		if err != nil {
			t.Fatal(err)
		}
		tx := m.Store.Begin(mountID)
		probe := &enginetest.Probe{Tx: tx}
		answer, err := m.Run(context.Background(), probe, Dice(1), b)
		for _, p := range probe.Touched {
			check(r.Path+": a name", p.String())
		}
		for _, c := range probe.Staged {
			check(r.Path+": a value", string(c.Value))
		}
		var credential *auth.CredentialError
		if refusal := (outcome{answer: answer, err: err}).refusal(); errors.As(refusal, &credential) {
			check(r.Path+": an error", refusal.Error()+credential.Why)
		} else if refusal != nil {
			check(r.Path+": an error", refusal.Error())
		}
		check(r.Path+": a login", fmt.Sprintf("%+v", answer.Login))
		if err == nil {
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(s.Secrets) == 0 {
		t.Error("the method brings no secrets to look for")
	}
}

// canary is in every hostile text.
const canary = "canary-3f61"

var hostileValues = []string{
	`null`, `true`, `-1`, `0`, `1e999`, `9223372036854775808`, `""`, `[]`, `{}`, `[[]]`, `"\u0000"`, `"/"`, `".."`,
	`"` + canary + `"`, `"` + canary + `/../x"`, `"` + canary + `\u0000\n"`, `"` + canary + `\ufffd"`,
	`["` + canary + `"]`, `{"` + canary + `":"` + canary + `"}`, `{"` + canary + `":{"` + canary + `":[]}}`,
	`"{\"` + canary + `\":\"x\"}"`, `"{` + canary + `"`, `"` + canary + `=x"`, `"%s%n` + canary + `"`,
	`"` + strings.Repeat(canary, 10_000) + `"`, `"` + strings.Repeat(canary+",", 2000) + `"`,
	strings.Repeat("[", 500) + strings.Repeat("]", 500),
}

var hostileSegments = []string{canary + "\x00", canary + " x", strings.Repeat(canary, 200), "\xff" + canary, canary + "\n", "..", "-", "%2e", "ⓐ" + canary}

// hostile: whatever a field or a segment of the path holds, nothing panics, what
// only reads stages nothing, no error repeats it, and nobody is logged in.
func (s *suite) hostile(t testing.TB) {
	tried := 0
	for _, r := range s.all() {
		for h := range s.hostileTo(t, r) {
			tried++
			b, err := s.mount.Bind(h)
			if err == nil {
				o := s.run(t, b, &enginetest.Probe{})
				err = o.refusal()
				if !b.Match.Route.Writes && len(o.probe.Staged) > 0 {
					t.Errorf("%v %s only reads, and stages %+v", h.Verb, h.Path, o.probe.Staged)
				}
			}
			if err != nil && strings.Contains(err.Error(), canary) {
				t.Errorf("%v %s: the error repeats the request: %.200q", h.Verb, r.Path, err)
			}
		}
	}
	if tried < 100 {
		t.Errorf("only %d hostile requests were tried", tried)
	}
}

func (s *suite) hostileTo(t testing.TB, r Request) func(func(Request) bool) {
	body := map[string]json.RawMessage{}
	if r.Body != "" {
		if err := json.Unmarshal([]byte(r.Body), &body); err != nil {
			t.Fatal(err)
		}
	}
	return func(yield func(Request) bool) {
		for name := range body {
			for _, v := range hostileValues {
				h := r
				h.Body = with(t, body, name, v)
				if !yield(h) {
					return
				}
			}
		}
		segments := strings.Split(r.Path, "/")
		for i := range segments {
			for _, bad := range hostileSegments {
				changed := append([]string(nil), segments...)
				changed[i] = bad
				h := r
				h.Path = strings.Join(changed, "/")
				if !yield(h) {
					return
				}
			}
		}
	}
}

// with returns a body with one field replaced.
func with(t testing.TB, body map[string]json.RawMessage, name, value string) string {
	t.Helper()
	changed := map[string]json.RawMessage{name: json.RawMessage(value)}
	for k, v := range body {
		if k != name {
			changed[k] = v
		}
	}
	p, err := json.Marshal(changed)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}
