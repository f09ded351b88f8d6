package kv

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// through asks a route of a version; it must succeed.
func (s *shop) through(version string, verb engine.Verb, path, body string) {
	s.t.Helper()
	if err := s.answer(version, verb, path, body); err != nil {
		s.t.Fatalf("%v %s: %v", verb, path, err)
	}
}

func (s *shop) answer(version string, verb engine.Verb, path, body string) error {
	return enginetest.Answer(s.Store, Backend{Engine: &s.Engine}, enginetest.RouteOptions{Options: map[string]string{"version": version}},
		enginetest.Asking(verb, path, body))
}

// seen is the data of a secret as a route of a version shows it, as JSON.
func (s *shop) seen(version, path string) string {
	s.t.Helper()
	table, err := Backend{}.Routes(map[string]string{"version": version})
	if err != nil {
		s.t.Fatal(err)
	}
	match, _ := engine.CompileRoutes(table).Find(engine.VerbRead, path)
	call := &engine.Call{Tx: s.Begin(enginetest.Mount), Mount: engine.Mount{DefaultTTL: time.Hour}}
	request, err := match.Bind(engine.Input{})
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := match.Serve(call, request)
	if err != nil {
		return err.Error()
	}
	var data any = answer.Data
	if all, ok := data.(*dataAnswer); ok {
		data = all.Data
	}
	out, err := json.Marshal(data)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(out)
}

// What one door writes the other reads: a text as a text, binary as base64,
// anything else as the JSON it was.
func TestDoorsShowTheSameSecret(t *testing.T) {
	s := newShop(t)
	ask(s, s.Put(), &conclavev1.PutSecretRequest{Path: "typed", Data: map[string]*conclavev1.Field{
		"text": {Kind: &conclavev1.Field_Text{Text: "pässword"}}, "binary": {Kind: &conclavev1.Field_Binary{Binary: []byte("\x00\xff>")}},
		"json": {Kind: &conclavev1.Field_Json{Json: ` {"n":1.50} `}},
	}})
	want := `{"binary":"AP8+","json":{"n":1.50},"text":"pässword"}`
	if got := s.seen("2", "data/typed"); got != want {
		t.Errorf("the route shows %s, want %s", got, want)
	}
	if got := s.seen("1", "typed"); got != want {
		t.Errorf("the route of version 1 shows %s, want %s", got, want)
	}
	s.through("2", engine.VerbWrite, "data/routed", `{"data":{"text":"\u00e9<","n":12345678901234567890,"o":{"a":[1.0]},"no":null}}`)
	got := ask(s, s.Get(), &conclavev1.GetSecretRequest{Path: "routed"}).Secret
	for name, field := range map[string]*conclavev1.Field{
		"text": {Kind: &conclavev1.Field_Text{Text: "é<"}}, "n": {Kind: &conclavev1.Field_Json{Json: "12345678901234567890"}},
		"o": {Kind: &conclavev1.Field_Json{Json: `{"a":[1.0]}`}}, "no": {Kind: &conclavev1.Field_Json{Json: "null"}},
	} {
		if !proto.Equal(got.Data[name], field) {
			t.Errorf("field %s is %v, want %v", name, got.Data[name], field)
		}
	}
	// What a patch does not name keeps its bytes; what was binary is text from then on.
	s.through("2", engine.VerbPatch, "data/typed", `{"data":{"text":"new"}}`)
	if got := s.seen("2", "data/typed"); got != strings.Replace(want, "pässword", "new", 1) {
		t.Errorf("after a patch the route shows %s", got)
	}
}

// The mount's demands hold for the typed methods too, and their answers show a
// secret's own limit.
func TestMountDemands(t *testing.T) {
	s := newShop(t)
	s.through("2", engine.VerbWrite, "config", `{"max_versions":2,"cas_required":true,"delete_version_after":"1h"}`)
	put := &conclavev1.PutSecretRequest{Path: "x", Data: text("v")}
	refused(s, s.Put(), put, &engine.CheckAndSetError{Required: true})
	for n := range uint64(3) {
		put.Cas = &n
		ask(s, s.Put(), put)
	}
	if m := s.metadata("x"); m.MaxVersions != 0 || m.OldestVersion != 2 ||
		!m.Versions[0].DeletedAt.AsTime().Equal(opening.Add(time.Hour)) {
		t.Errorf("metadata %v: want no limit of its own, versions from 2, an end after an hour", m)
	}
	// A ttl that the request names counts, be it longer.
	ask(s, s.Put(), &conclavev1.PutSecretRequest{Path: "x", Data: text("v"), Cas: new(uint64(3)), Ttl: ttl(2 * time.Hour)})
	if v := s.metadata("x").Versions[1]; !v.DeletedAt.AsTime().Equal(opening.Add(2 * time.Hour)) {
		t.Errorf("version 4 ends %v, want after two hours", v.DeletedAt.AsTime())
	}
	// A secret that is removed takes its own limit along.
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", MaxVersions: new(uint64(1))})
	if m := s.metadata("x"); m.MaxVersions != 1 {
		t.Errorf("the own limit is %d, want 1", m.MaxVersions)
	}
	ask(s, s.DeleteMetadata(), &conclavev1.DeleteMetadataRequest{Path: "x"})
	if left, err := s.Begin(enginetest.Mount).Record(ownLimitPath(engine.Path{"x"})); left != nil || err != nil {
		t.Errorf("of a secret that is gone its limit is left: %q %v", left, err)
	}
	put.Cas = new(uint64(0))
	ask(s, s.Put(), put)
	if m := s.metadata("x"); m.MaxVersions != 0 {
		t.Errorf("a new secret at the old path has the limit %d", m.MaxVersions)
	}
}

// A write that was decided on other demands of the mount does not commit.
func TestConfigIsGuarded(t *testing.T) {
	s := newShop(t)
	s.put("x", "one")
	for name, handle := range map[string]func(engine.Tx) error{
		"put": func(tx engine.Tx) error {
			return second(s.Put().Handle(tx, &conclavev1.PutSecretRequest{Path: "x", Data: text("v")}))
		},
		"rollback": func(tx engine.Tx) error {
			return second(s.Rollback().Handle(tx, &conclavev1.RollbackSecretRequest{Path: "x", Version: 1}))
		},
		"config": func(tx engine.Tx) error { return changeConfig(tx, &configChange{MaxVersions: new(engine.Int(3))}) },
	} {
		tx := s.Begin(enginetest.Mount)
		if err := handle(tx); err != nil {
			t.Fatal(err)
		}
		s.through("2", engine.VerbWrite, "config", `{"cas_required":false}`)
		if err := tx.Commit(); !errors.Is(err, enginetest.ErrConflict) {
			t.Errorf("%s commits with %v, want a conflict", name, err)
		}
	}
}

// A mount of version 1 keeps one value of each secret, destroys what it replaces,
// and has all its secrets at once when it becomes one of version 2.
func TestUpgrade(t *testing.T) {
	s := newShop(t)
	for i := range 3 {
		s.through("1", engine.VerbWrite, "app/db", fmt.Sprintf(`{"n":%d}`, i))
	}
	if got := s.numbers("app/db"); got != "[1x 2x 3]" {
		t.Errorf("version 1 leaves %s, want all but the last destroyed", got)
	}
	if got := s.seen("2", "data/app/db"); got != `{"n":2}` {
		t.Errorf("as version 2 the mount shows %s", got)
	}
	s.through("2", engine.VerbWrite, "data/app/db", `{"data":{"n":3}}`)
	s.through("2", engine.VerbWrite, "data/app/db", `{"data":{"n":4}}`)
	if got := s.numbers("app/db"); got != "[1x 2x 3 4 5]" {
		t.Errorf("after the upgrade there are %s: version 2 keeps its history", got)
	}
	// And back: the current value, or nothing if it is deleted.
	if got := s.seen("1", "app/db"); got != `{"n":4}` {
		t.Errorf("as version 1 again the mount shows %s", got)
	}
	s.through("2", engine.VerbDelete, "data/app/db", "")
	if got := s.seen("1", "app/db"); got != "no such secret" {
		t.Errorf("as version 1 a deleted secret shows %s", got)
	}
	// A limit of one version has no room for what a write replaces.
	s.through("2", engine.VerbWrite, "metadata/app/db", `{"max_versions":1}`)
	s.through("1", engine.VerbWrite, "app/db", `{"n":5}`)
	s.through("1", engine.VerbWrite, "app/db", `{"n":6}`)
	if got := s.numbers("app/db"); got != "[7]" {
		t.Errorf("with a limit of one there are %s", got)
	}
	s.through("1", engine.VerbDelete, "app/db", "")
	refused(s, s.GetMetadata(), &conclavev1.GetMetadataRequest{Path: "app/db"}, noSecret)
}

// What is too large, too deep or too many is refused by the routes, too, and a
// path at its limit is not.
func TestRouteLimits(t *testing.T) {
	s := newShop(t)
	s.MaxValueBytes, s.MaxPathBytes = 100, 20
	deep := strings.Repeat(`[`, engine.MaxDepth+1) + strings.Repeat(`]`, engine.MaxDepth+1)
	long := `"` + strings.Repeat("x", 101) + `"`
	many := strings.Repeat("1,", maxNumbers+1)
	var (
		large   *engine.TooLargeError
		invalid *engine.InvalidError
		path    *engine.PathError
	)
	s.through("2", engine.VerbWrite, "data/x", `{"data":{"small":{}}}`)
	for _, c := range []struct {
		version string
		verb    engine.Verb
		path    string
		body    string
		want    any
	}{
		{"2", engine.VerbWrite, "data/x", `{"data":{"a":` + long + `}}`, &large},
		{"2", engine.VerbPatch, "data/x", `{"data":{"a":` + long + `}}`, &large},
		{"2", engine.VerbPatch, "data/x", `{"data":{"small":{"a":` + long + `}}}`, &large},
		{"1", engine.VerbWrite, "x", `{"a":` + long + `}`, &large},
		{"2", engine.VerbWrite, "data/x", `{"data":{"a":` + deep + `}}`, &invalid},
		{"2", engine.VerbPatch, "data/x", `{"data":{"a":{"b":` + deep + `}}}`, &invalid},
		{"1", engine.VerbWrite, "x", `{"a":` + deep + `}`, &invalid},
		{"2", engine.VerbWrite, "delete/x", `{"versions":"` + many + `"}`, &large},
		{"2", engine.VerbWrite, "data/" + strings.Repeat("p", 21), `{"data":{"a":1}}`, &path},
		{"1", engine.VerbRead, strings.Repeat("p", 21), "", &path},
	} {
		s.unchanged("x", func() {
			if err := s.answer(c.version, c.verb, c.path, c.body); !errors.As(err, c.want) {
				t.Errorf("version %s: %v %.30s: got %T %v, want %T", c.version, c.verb, c.path, err, err, c.want)
			}
		})
	}
	s.through("2", engine.VerbWrite, "data/"+strings.Repeat("p", 20), `{"data":{"a":1}}`)
}

// A listing that is cut short says so, unless the request asked for that.
func TestListingIsBounded(t *testing.T) {
	s := newShop(t)
	s.MaxKeys = 3
	for _, p := range []string{"a", "b", "c", "d"} {
		s.put(p, "v")
	}
	for _, c := range []struct {
		limit    engine.Int
		keys     int
		warnings int
	}{{0, 3, 1}, {-1, 3, 1}, {2, 2, 0}, {3, 3, 1}, {4, 3, 1}, {1 << 40, 3, 1}} {
		call := &engine.Call{Tx: s.Begin(enginetest.Mount)}
		got, err := s.keys(call, &engine.ListRequest{Limit: c.limit})
		if err != nil || len(got.Keys) != c.keys {
			t.Errorf("limit %d: %v %v, want %d names", c.limit, got, err, c.keys)
		}
		if w := s.warnings("metadata", c.limit); len(w) != c.warnings {
			t.Errorf("limit %d: warnings %q, want %d", c.limit, w, c.warnings)
		}
	}
}

// warnings are those of a listing by a route of version 2.
func (s *shop) warnings(path string, limit engine.Int) []string {
	s.t.Helper()
	match, _ := engine.CompileRoutes(v2{&s.Engine}.routes()).Find(engine.VerbList, path)
	answer, err := match.Serve(&engine.Call{Tx: s.Begin(enginetest.Mount)}, &engine.ListRequest{Limit: limit})
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.Warnings
}

// The deepest values that can be stored can be patched at their bottom, in time.
func TestDeepPatch(t *testing.T) {
	s := newShop(t)
	nest := func(inner string) string {
		return strings.Repeat(`{"a":`, engine.MaxDepth) + inner + strings.Repeat(`}`, engine.MaxDepth)
	}
	s.through("2", engine.VerbWrite, "data/x", `{"data":{"f":`+nest(`1`)+`}}`)
	s.through("2", engine.VerbPatch, "data/x", `{"data":{"f":`+nest(`2.50`)+`}}`)
	if got := s.seen("2", "data/x"); got != `{"f":`+nest(`2.50`)+`}` {
		t.Errorf("after the patch: %.80s…", got)
	}
}
