package enginetest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/conclave-secrets/conclave/engine"
)

// Mount is the mount that [TestMethods] shows to methods.
const Mount = "mount"

// A Case is one method, its types forgotten, with requests to try it with.
type Case struct {
	name          string
	capability    engine.Capability
	writes        bool
	complete      bool
	input, output protoreflect.FullName
	requests      []proto.Message
	path          func(proto.Message) string
	handle        func(engine.Tx, proto.Message) (proto.Message, error)
	finish        func(proto.Message, engine.Commit)
}

// Of makes a case. At least one of the requests must succeed on a store as
// Options.Prepare leaves it; some should be refused there. They are not changed.
func Of[Req, Resp proto.Message](m engine.Method[Req, Resp], requests ...Req) Case {
	var req Req
	var resp Resp
	c := Case{
		name: m.Name, capability: m.Capability, writes: m.Writes,
		complete: m.Path != nil && m.Handle != nil && m.Finish != nil,
		input:    req.ProtoReflect().Descriptor().FullName(), output: resp.ProtoReflect().Descriptor().FullName(),
		path:   func(r proto.Message) string { return m.Path(r.(Req)) },
		handle: func(tx engine.Tx, r proto.Message) (proto.Message, error) { return m.Handle(tx, r.(Req)) },
		finish: func(r proto.Message, c engine.Commit) { m.Finish(r.(Resp), c) },
	}
	for _, r := range requests {
		c.requests = append(c.requests, r)
	}
	return c
}

// Name is the name of the method.
func (c Case) Name() string { return c.name }

// Options tells [TestMethods] what it cannot know of an engine. Zero fields have
// the stated default.
type Options struct {
	// Prepare fills the mount [Mount] of an empty store. Default: it stays empty.
	Prepare func(*testing.T, *Store)
	// Same compares two staged changes. An engine whose encoding orders a map as
	// it likes gives a comparison of what the values mean. Default: equality.
	Same func(a, b Staged) bool
}

// TestMethods checks everything that engine.Method promises of the methods of an
// engine: that they are declared well and under different names; that reads stage
// nothing; that Handle may run several times and at once, depends on nothing but
// its view and its request, and changes neither; that an error of the transaction
// comes back unchanged and ends the method; that Finish may run on an answer that
// was stored in between; and that no request, however hostile, makes a method
// panic or repeat in an error what it was told.
func TestMethods(t *testing.T, o Options, cases ...Case) {
	if o.Same == nil {
		o.Same = func(a, b Staged) bool { return reflect.DeepEqual(a, b) }
	}
	store := NewStore(startOfTime)
	if o.Prepare != nil {
		o.Prepare(t, store)
	}
	seen := map[string]bool{}
	for _, c := range cases {
		if seen[c.name] {
			t.Errorf("two methods are named %s", c.name)
		}
		seen[c.name] = true
		t.Run(c.name[strings.LastIndexByte(c.name, '/')+1:], func(t *testing.T) {
			if !c.complete {
				t.Fatal("Path, Handle or Finish is nil")
			}
			s := &methodSuite{T: t, Case: c, Options: o, store: store}
			s.declaration()
			s.succeeds()
			for i, r := range c.requests {
				t.Run(fmt.Sprintf("request %d", i), func(t *testing.T) {
					s := &methodSuite{T: t, Case: c, Options: o, store: store}
					s.pure(r)
					s.errors(r)
					s.finishes(r)
					s.atOnce(r)
				})
			}
			s.hostile()
		})
	}
}

// methodSuite tests one method over a store that it does not change.
type methodSuite struct {
	*testing.T
	Case
	Options
	store *Store
}

var capabilities = []engine.Capability{engine.CapabilityRead, engine.CapabilityList,
	engine.CapabilityCreate, engine.CapabilityUpdate, engine.CapabilityDelete}

// declaration: the name is that of a method of a service, for these messages.
func (s *methodSuite) declaration() {
	if !slices.Contains(capabilities, s.capability) {
		s.Errorf("capability %q is not one that a policy can grant", s.capability)
	}
	service, method, ok := strings.Cut(strings.TrimPrefix(s.name, "/"), "/")
	if !ok || !strings.HasPrefix(s.name, "/") {
		s.Fatalf("name %q is not a full gRPC name", s.name)
	}
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		s.Fatalf("name %q: %v", s.name, err)
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok || m.Input().FullName() != s.input || m.Output().FullName() != s.output {
		s.Errorf("%s is %v, the method takes %s and returns %s", s.name, d, s.input, s.output)
	}
}

// outcome is what one run of Handle did.
type outcome struct {
	resp   proto.Message // nil after an error
	err    error
	staged []Staged
	probe  *Probe
}

// run handles r on a view of the store. A panic fails the test.
func (s *methodSuite) run(p *Probe, r proto.Message) (o outcome) {
	defer func() {
		if panicked := recover(); panicked != nil {
			s.Fatalf("request %v: panic: %v", r, panicked)
		}
	}()
	p.Tx = s.store.Begin(Mount)
	o.resp, o.err = s.handle(p, r)
	o.staged, o.probe = p.Staged, p
	if o.err != nil {
		o.resp = nil
	}
	return o
}

// differ tells in what two outcomes differ, "" in nothing.
func (s *methodSuite) differ(a, b outcome) string {
	switch {
	case fmt.Sprintf("%T %v", a.err, a.err) != fmt.Sprintf("%T %v", b.err, b.err):
		return fmt.Sprintf("error %v and error %v", a.err, b.err)
	case a.err != nil:
		return ""
	case !proto.Equal(a.resp, b.resp):
		return fmt.Sprintf("answer %v and answer %v", a.resp, b.resp)
	case !slices.EqualFunc(a.staged, b.staged, s.Same):
		return fmt.Sprintf("staged %+v and staged %+v", a.staged, b.staged)
	}
	return ""
}

// succeeds: requests that are all refused would prove nothing, and a method that
// says that it writes should.
func (s *methodSuite) succeeds() {
	succeeded, wrote := false, false
	for _, r := range s.requests {
		o := s.run(&Probe{}, r)
		succeeded = succeeded || o.err == nil && o.probe.Calls > 0
		wrote = wrote || o.err == nil && len(o.staged) > 0
	}
	if !succeeded {
		s.Error("no request succeeds with the help of its transaction")
	}
	if s.writes && !wrote {
		s.Error("the method says that it writes, and no request makes it")
	}
}

// pure: the same request on an equal view has the same outcome, whatever was
// handled in between; a read stages nothing; the request stays what it was.
func (s *methodSuite) pure(r proto.Message) {
	before := proto.Clone(r)
	first := s.run(&Probe{}, r)
	for _, other := range s.requests {
		s.run(&Probe{}, proto.Clone(other))
	}
	elsewhere := &methodSuite{T: s.T, Case: s.Case, Options: s.Options, store: NewStore(startOfTime.Add(1))}
	elsewhere.run(&Probe{}, r)
	if diff := s.differ(first, s.run(&Probe{}, proto.Clone(r))); diff != "" {
		s.Errorf("two runs on equal views differ: %s", diff)
	}
	s.harmless(first, before, r)
}

// harmless is what holds after every run.
func (s *methodSuite) harmless(o outcome, before, r proto.Message) {
	s.Helper()
	if !s.writes && len(o.staged) > 0 {
		s.Errorf("request %v: a method that only reads staged %+v", r, o.staged)
	}
	if !proto.Equal(before, r) {
		s.Errorf("request %v became %v", before, r)
	}
}

// testError is an error with nothing to recognise it by but itself.
type testError struct{}

func (*testError) Error() string { return "injected" }

// errors: an error of any call of the transaction comes back unchanged, and no
// further call is made.
func (s *methodSuite) errors(r proto.Message) {
	calls := s.run(&Probe{}, r).probe.Calls
	for at := 1; at <= calls; at++ {
		injected := &testError{}
		o := s.run(&Probe{FailAt: at, Err: injected}, r)
		if o.err != error(injected) {
			s.Errorf("call %d of %d failed, and the method returned %v, want that error unchanged", at, calls, o.err)
		}
		if o.probe.Calls != at {
			s.Errorf("call %d of %d failed, and the method made %d", at, calls, o.probe.Calls)
		}
	}
}

// finishes: Finish may run on the answer as it was, and as it comes back from
// storage, and the last commit counts. The request has no part in it.
func (s *methodSuite) finishes(r proto.Message) {
	before := proto.Clone(r)
	o := s.run(&Probe{}, r)
	if o.err != nil {
		return
	}
	encoded, err := proto.Marshal(o.resp)
	stored := o.resp.ProtoReflect().New().Interface()
	if err == nil {
		err = proto.Unmarshal(encoded, stored)
	}
	if err != nil {
		s.Fatalf("storing answer %v: %v", o.resp, err)
	}
	commit := engine.Commit{Index: 77, Time: startOfTime.Add(88)}
	s.finish(o.resp, engine.Commit{})
	s.finish(o.resp, commit)
	s.finish(stored, commit)
	if !proto.Equal(o.resp, stored) {
		s.Errorf("finished as it was the answer is %v, from storage %v", o.resp, stored)
	}
	s.harmless(o, before, r)
}

// atOnce: an engine answers many requests at a time. (The race detector sees more.)
func (s *methodSuite) atOnce(r proto.Message) {
	want := s.run(&Probe{}, r)
	differences := make(chan string, 4)
	for range cap(differences) {
		go func() {
			p := &Probe{Tx: s.store.Begin(Mount)}
			var o outcome
			if o.resp, o.err = s.handle(p, r); o.err != nil {
				o.resp = nil
			}
			o.staged = p.Staged
			differences <- s.differ(want, o)
		}()
	}
	for range cap(differences) {
		if diff := <-differences; diff != "" {
			s.Errorf("alone and beside others the outcomes differ: %s", diff)
		}
	}
}

// hostile: whatever a request holds, nothing panics, a read stages nothing, and
// no error tells what the request said.
func (s *methodSuite) hostile() {
	tried := 0
	for _, valid := range s.requests {
		for r := range hostileTo(valid) {
			tried++
			before := proto.Clone(r)
			s.survivesPath(r)
			o := s.run(&Probe{}, r)
			s.harmless(o, before, r)
			if o.err != nil && strings.Contains(o.err.Error(), canary) {
				s.Errorf("the error repeats what the request says: %v", o.err)
			}
			if s.Failed() {
				return
			}
		}
	}
	if tried < 10 {
		s.Errorf("only %d hostile requests were tried", tried)
	}
}

func (s *methodSuite) survivesPath(r proto.Message) {
	defer func() {
		if panicked := recover(); panicked != nil {
			s.Fatalf("path of request %v: panic: %v", r, panicked)
		}
	}()
	if a, b := s.path(r), s.path(r); a != b {
		s.Errorf("request %v is about %q, then about %q", r, a, b)
	}
}
