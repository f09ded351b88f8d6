package kv

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// stock fills a store: secrets with versions in every state, settings, directories.
func stock(t testing.TB, store *enginetest.Store) {
	s := &shop{t: t, Store: store}
	s.put("a/b", "one", "two", "three", "four")
	ask(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "a/b", Versions: numbersOf(2)})
	ask(s, s.Destroy(), &conclavev1.DestroySecretRequest{Path: "a/b", Versions: numbersOf(3)})
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "a/b", SetCustomMetadata: true,
		CustomMetadata: map[string]string{"owner": "me", "team": "us"}, DeleteVersionAfter: ttl(time.Hour)})
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "cas", CasRequired: new(true)})
	s.put("a", "v")
	s.put("d/e/f", "v")
}

// cases are all the methods with requests that succeed, are refused, and are wrong.
func cases(e *Engine) []enginetest.Case {
	options := &conclavev1.WriteOptions{IdempotencyKey: "key"}
	two := text("v")
	two["other"] = &conclavev1.Field{Kind: &conclavev1.Field_Json{Json: "{}"}}
	return []enginetest.Case{
		enginetest.Of(e.Put(),
			&conclavev1.PutSecretRequest{Path: "a/b", Data: text("v"), Cas: new(uint64(4)), Ttl: ttl(time.Minute), Write: options},
			&conclavev1.PutSecretRequest{Path: "new", Data: two},
			&conclavev1.PutSecretRequest{Path: "cas", Data: text("v")}),
		enginetest.Of(e.Get(),
			&conclavev1.GetSecretRequest{Path: "a/b", Read: &conclavev1.ReadOptions{}},
			&conclavev1.GetSecretRequest{Path: "a/b", Version: 2},
			&conclavev1.GetSecretRequest{Path: "none"}),
		enginetest.Of(e.List(),
			&conclavev1.ListSecretsRequest{Path: "a", After: "a", Limit: 1},
			&conclavev1.ListSecretsRequest{Path: "a/b"}),
		enginetest.Of(e.Delete(),
			&conclavev1.DeleteSecretRequest{Path: "a/b", Versions: numbersOf(1, 2, 3)},
			&conclavev1.DeleteSecretRequest{Path: "a/b", Versions: numbersOf(9)}),
		enginetest.Of(e.Undelete(),
			&conclavev1.UndeleteSecretRequest{Path: "a/b", Versions: numbersOf(1, 2)},
			&conclavev1.UndeleteSecretRequest{Path: "a/b", Versions: numbersOf(3)}),
		enginetest.Of(e.Destroy(),
			&conclavev1.DestroySecretRequest{Path: "a/b", Versions: numbersOf(1, 2, 3)},
			&conclavev1.DestroySecretRequest{Path: "none", Versions: numbersOf(1)}),
		enginetest.Of(e.Rollback(),
			&conclavev1.RollbackSecretRequest{Path: "a/b", Version: 1, Cas: new(uint64(4))},
			&conclavev1.RollbackSecretRequest{Path: "a/b", Version: 3}),
		enginetest.Of(e.GetMetadata(),
			&conclavev1.GetMetadataRequest{Path: "a/b"}, &conclavev1.GetMetadataRequest{Path: "cas"},
			&conclavev1.GetMetadataRequest{Path: "none"}),
		enginetest.Of(e.PutMetadata(),
			&conclavev1.PutMetadataRequest{Path: "a/b", MaxVersions: new(uint64(3)), CasRequired: new(true),
				DeleteVersionAfter: ttl(time.Second), CustomMetadata: map[string]string{"k": "v", "l": "w"}, SetCustomMetadata: true},
			&conclavev1.PutMetadataRequest{Path: "new"}),
		enginetest.Of(e.DeleteMetadata(),
			&conclavev1.DeleteMetadataRequest{Path: "a/b"}, &conclavev1.DeleteMetadataRequest{Path: "none"}),
	}
}

// All methods keep the contract of a method, and they are all of the service.
func TestMethods(t *testing.T) {
	all := cases(&Engine{})
	enginetest.TestMethods(t, enginetest.Options{
		Prepare: func(t *testing.T, s *enginetest.Store) { stock(t, s) },
	}, all...)
	var got, want []string
	for _, c := range all {
		got = append(got, c.Name())
	}
	for _, m := range conclavev1.Secrets_ServiceDesc.Methods {
		want = append(want, "/"+conclavev1.Secrets_ServiceDesc.ServiceName+"/"+m.MethodName)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("tested are %v, the service has %v", got, want)
	}
}

// method is a method of the engine whose types are forgotten.
type method struct {
	name   string
	fresh  func() proto.Message
	path   func(proto.Message) string
	handle func(engine.Tx, proto.Message) error
}

func forget[Req, Resp proto.Message](m engine.Method[Req, Resp]) method {
	var r Req
	return method{m.Name, func() proto.Message { return r.ProtoReflect().New().Interface() },
		func(r proto.Message) string { return m.Path(r.(Req)) },
		func(tx engine.Tx, r proto.Message) error { return second(m.Handle(tx, r.(Req))) }}
}

func methods(e *Engine) []method {
	return []method{forget(e.Put()), forget(e.Get()), forget(e.List()), forget(e.Delete()), forget(e.Undelete()),
		forget(e.Destroy()), forget(e.Rollback()), forget(e.GetMetadata()), forget(e.PutMetadata()), forget(e.DeleteMetadata())}
}

// withPath sets the path of a request.
func withPath(r proto.Message, path string) proto.Message {
	m := r.ProtoReflect()
	m.Set(m.Descriptor().Fields().ByName("path"), protoreflect.ValueOfString(path))
	return r
}

// What is no path is refused by each method, before it looks at anything, with
// an error that does not repeat it.
func TestBadPaths(t *testing.T) {
	e := &Engine{MaxPathBytes: 100}
	for _, m := range methods(e) {
		isList := m.name == conclavev1.Secrets_List_FullMethodName
		for _, path := range []string{"", "/", "/bad", "bad/", "bad//x", "bad/../x", "..", ".", "bad/.", "bad\x00", "bad\n", "bad\x7f",
			"bad\u0085", "\xffbad", "bad\ufffd", strings.Repeat("b", 101), "//"} {
			if isList && (path == "" || path == "/" || path == "bad/") {
				continue // directories
			}
			p := &enginetest.Probe{Tx: enginetest.NewStore(opening).Begin(enginetest.Mount)}
			r := withPath(valid(m), path)
			err := m.handle(p, r)
			var why *engine.PathError
			if !errors.As(err, &why) || p.Calls != 0 {
				t.Errorf("%s %q: got %T %v after %d calls, want a PathError", m.name, path, err, err, p.Calls)
			} else if strings.Contains(err.Error(), "bad") || strings.Contains(err.Error(), "bbb") {
				t.Errorf("%s: the error repeats the path: %v", m.name, err)
			}
		}
		p := &enginetest.Probe{Tx: enginetest.NewStore(opening).Begin(enginetest.Mount)}
		if err := m.handle(p, withPath(valid(m), strings.Repeat("b", 100))); p.Calls == 0 {
			t.Errorf("%s refuses a path at the limit: %v", m.name, err)
		}
	}
}

// valid returns a request of m that has nothing wrong but perhaps its path.
func valid(m method) proto.Message {
	switch r := m.fresh().(type) {
	case *conclavev1.PutSecretRequest:
		r.Data = text("v")
		return r
	case *conclavev1.UndeleteSecretRequest:
		r.Versions = numbersOf(1)
		return r
	case *conclavev1.DestroySecretRequest:
		r.Versions = numbersOf(1)
		return r
	case *conclavev1.RollbackSecretRequest:
		r.Version = 1
		return r
	default:
		return r
	}
}

// Hostile requests: whatever bytes arrive as a request to whichever method, it
// answers or refuses in the words of package engine, looks at no path but the one
// that a policy was asked about (and at the mount's own settings), and stages only what can be committed.
func FuzzRequests(f *testing.F) {
	e := &Engine{MaxValueBytes: 4096}
	all := methods(e)
	for _, c := range seeds(f, e) {
		f.Add(c.method, c.raw)
	}
	store := enginetest.NewStore(opening)
	stock(f, store)
	f.Fuzz(func(t *testing.T, which byte, raw []byte) {
		m := all[int(which)%len(all)]
		r := m.fresh()
		if proto.Unmarshal(raw, r) != nil {
			return // the transport refuses it
		}
		tx := store.Fork().Begin(enginetest.Mount)
		p := &enginetest.Probe{Tx: tx}
		err := m.handle(p, r)
		if err != nil && !isRefusal(err) {
			t.Fatalf("%s %v: %T %v is no refusal of package engine", m.name, r, err, err)
		}
		_, path, _ := strings.Cut(m.path(r), "/") // behind data/, metadata/, …
		if err != nil && len(path) > 12 && strings.Contains(err.Error(), path) {
			t.Errorf("%s: the error repeats the path: %v", m.name, err)
		}
		for _, touched := range p.Touched {
			if own := strings.TrimSuffix(path, "/"); !slices.Contains([]string{own, configPath.String(), ownSegment + "/limit/" + own}, touched.String()) {
				t.Errorf("%s about %q looks at %q", m.name, path, touched)
			}
		}
		for _, s := range p.Staged {
			if len(s.Value) > 1<<20 {
				t.Errorf("%s stages %d bytes", m.name, len(s.Value))
			}
		}
		if err == nil {
			if err := tx.Commit(); err != nil {
				t.Errorf("%s %v: what was staged cannot be committed: %v", m.name, r, err)
			}
		}
	})
}

func isRefusal(err error) bool {
	var (
		path    *engine.PathError
		invalid *engine.InvalidError
		missing *engine.NotFoundError
		gone    *engine.GoneError
		cas     *engine.CheckAndSetError
		large   *engine.TooLargeError
	)
	return errors.As(err, &path) || errors.As(err, &invalid) || errors.As(err, &missing) ||
		errors.As(err, &gone) || errors.As(err, &cas) || errors.As(err, &large)
}

type seed struct {
	method byte
	raw    []byte
}

// seeds are valid requests of each method, and some with what is odd in them.
func seeds(f *testing.F, e *Engine) (out []seed) {
	add := func(method int, r proto.Message) {
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, seed{byte(method), raw})
	}
	for i, m := range methods(e) {
		for _, path := range []string{"a/b", "a", "cas", "none", "d/", "../x"} {
			add(i, withPath(valid(m), path))
		}
	}
	add(0, &conclavev1.PutSecretRequest{Path: "a/b", Data: text("v"), Cas: new(uint64(4)), Ttl: ttl(1)})
	add(3, &conclavev1.DeleteSecretRequest{Path: "a/b", Versions: numbersOf(1, 1<<63, 0)})
	add(8, &conclavev1.PutMetadataRequest{Path: "a/b", SetCustomMetadata: true, CustomMetadata: map[string]string{"k": "v"}, MaxVersions: new(uint64(1))})
	return out
}
