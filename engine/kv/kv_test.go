package kv

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Versions count up, the newest is current, and an answer tells number, time and
// index of what it is about.
func TestPutGet(t *testing.T) {
	s := newShop(t)
	s.gone("a/b", 0, noSecret)
	data := map[string]*conclavev1.Field{
		"text": {Kind: &conclavev1.Field_Text{Text: "pässword"}}, "empty": {Kind: &conclavev1.Field_Text{}},
		"binary": {Kind: &conclavev1.Field_Binary{Binary: []byte("\x00\xff")}}, "json": {Kind: &conclavev1.Field_Json{Json: `{"a":[1,null]}`}},
	}
	first := ask(s, s.Put(), &conclavev1.PutSecretRequest{Path: "a/b", Data: data})
	if v := first.Version; v.Version != 1 || !v.CreatedAt.AsTime().Equal(opening) || first.Index == 0 {
		t.Errorf("the first put answers %v", first)
	}
	s.Advance(time.Second)
	s.put("a/b", "two")
	s.want("a/b", 0, "two")
	s.want("a/b", 2, "two")
	got := ask(s, s.Get(), &conclavev1.GetSecretRequest{Path: "a/b", Version: 1})
	if !proto.Equal(got.Secret, &conclavev1.Secret{Path: "a/b", Data: data, Version: first.Version}) {
		t.Errorf("version 1: got %v, want %v", got.Secret, data)
	}
	if got.Index <= first.Index {
		t.Errorf("the read names index %d, the first put %d", got.Index, first.Index)
	}
	s.gone("a/b", 3, noVersion(3))
	s.gone("a", 0, noSecret)
	s.gone("a/b/c", 1, noSecret)
}

// Check-and-set: the version that must be current, 0 for a secret that must not
// exist; required when the secret says so. A refusal names what is current.
func TestCheckAndSet(t *testing.T) {
	s := newShop(t)
	put := func(cas uint64, value string) *conclavev1.PutSecretRequest {
		return &conclavev1.PutSecretRequest{Path: "x", Data: text(value), Cas: &cas}
	}
	refused(s, s.Put(), put(1, "early"), &engine.CheckAndSetError{Want: 1})
	ask(s, s.Put(), put(0, "one"))
	refused(s, s.Put(), put(0, "again"), &engine.CheckAndSetError{Want: 0, Current: 1})
	refused(s, s.Put(), put(2, "ahead"), &engine.CheckAndSetError{Want: 2, Current: 1})
	ask(s, s.Put(), put(1, "two"))
	s.want("x", 0, "two")

	// A deleted secret still has its number: to write it anew is to know it.
	ask(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "x"})
	refused(s, s.Put(), put(0, "anew"), &engine.CheckAndSetError{Want: 0, Current: 2})
	ask(s, s.Put(), put(2, "three"))

	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", CasRequired: new(true)})
	refused(s, s.Put(), &conclavev1.PutSecretRequest{Path: "x", Data: text("blind")}, &engine.CheckAndSetError{Required: true, Current: 3})
	refused(s, s.Rollback(), &conclavev1.RollbackSecretRequest{Path: "x", Version: 1}, &engine.CheckAndSetError{Required: true, Current: 3})
	refused(s, s.Rollback(), &conclavev1.RollbackSecretRequest{Path: "x", Version: 1, Cas: new(uint64(2))}, &engine.CheckAndSetError{Want: 2, Current: 3})
	ask(s, s.Put(), put(3, "four"))
	s.want("x", 0, "four")
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", CasRequired: new(false)})
	s.put("x", "five")

	// Required before there is a version, 0 is the number to name.
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "y", CasRequired: new(true)})
	refused(s, s.Put(), &conclavev1.PutSecretRequest{Path: "y", Data: text("v")}, &engine.CheckAndSetError{Required: true})
	ask(s, s.Put(), &conclavev1.PutSecretRequest{Path: "y", Data: text("v"), Cas: new(uint64(0))})
}

// A write that was decided on an old version does not commit.
func TestWritersOfOneSecretConflict(t *testing.T) {
	s := newShop(t)
	s.put("x", "one")
	for what, handle := range map[string]func(engine.Tx) error{
		"put": func(tx engine.Tx) error {
			return second(s.Put().Handle(tx, &conclavev1.PutSecretRequest{Path: "x", Data: text("v")}))
		},
		"delete": func(tx engine.Tx) error {
			return second(s.Delete().Handle(tx, &conclavev1.DeleteSecretRequest{Path: "x"}))
		},
		"put metadata": func(tx engine.Tx) error {
			return second(s.PutMetadata().Handle(tx, &conclavev1.PutMetadataRequest{Path: "x"}))
		},
		"delete metadata": func(tx engine.Tx) error {
			return second(s.DeleteMetadata().Handle(tx, &conclavev1.DeleteMetadataRequest{Path: "x"}))
		},
		"rollback": func(tx engine.Tx) error {
			return second(s.Rollback().Handle(tx, &conclavev1.RollbackSecretRequest{Path: "x", Version: 1}))
		},
		"destroy": func(tx engine.Tx) error {
			return second(s.Destroy().Handle(tx, &conclavev1.DestroySecretRequest{Path: "x", Versions: numbersOf(1)}))
		},
	} {
		for whose, other := range map[string]func(){
			"a put": func() { s.put("x", "theirs") },
			"a setting": func() {
				ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", MaxVersions: new(uint64(0))})
			},
		} {
			tx := s.Begin(enginetest.Mount)
			if err := handle(tx); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			other()
			if err := tx.Commit(); !errors.Is(err, enginetest.ErrConflict) {
				t.Errorf("%s after %s by another: commits with %v, want a conflict", what, whose, err)
			}
		}
	}
}

func second[Resp any](_ Resp, err error) error { return err }

// Rollback makes the data of an earlier version the newest, if it can be read.
func TestRollback(t *testing.T) {
	s := newShop(t)
	s.put("x", "one", "two", "three", "four")
	r := func(n uint64) *conclavev1.RollbackSecretRequest {
		return &conclavev1.RollbackSecretRequest{Path: "x", Version: n}
	}
	s.Advance(time.Second)
	got := ask(s, s.Rollback(), r(2))
	if got.Version.Version != 5 || !got.Version.CreatedAt.AsTime().Equal(opening.Add(time.Second)) {
		t.Errorf("rollback answers %v, want version 5", got)
	}
	s.want("x", 0, "two")
	s.want("x", 4, "four")
	ask(s, s.Rollback(), r(5)) // to the current one is a version, too
	s.want("x", 6, "two")
	ask(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "x", Versions: numbersOf(1)})
	ask(s, s.Destroy(), &conclavev1.DestroySecretRequest{Path: "x", Versions: numbersOf(3)})
	s.unchanged("x", func() {
		refused(s, s.Rollback(), r(0), &engine.InvalidError{Why: "rollback needs the number of a version"})
		refused(s, s.Rollback(), r(1), &engine.GoneError{Version: 1})
		refused(s, s.Rollback(), r(3), &engine.GoneError{Version: 3, Destroyed: true})
		refused(s, s.Rollback(), r(7), noVersion(7))
		refused(s, s.Rollback(), &conclavev1.RollbackSecretRequest{Path: "none", Version: 1}, noSecret)
	})
	ask(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "x"}) // the current one may be deleted
	ask(s, s.Rollback(), r(4))
	s.want("x", 0, "four")
}

// A secret keeps ten versions, or as many as it is told to.
func TestKeep(t *testing.T) {
	s := newShop(t)
	s.put("x", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11")
	s.gone("x", 1, noVersion(1))
	s.want("x", 2, "2")
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", MaxVersions: new(uint64(2))})
	s.put("x", "12")
	if got := s.numbers("x"); got != "[11 12]" {
		t.Errorf("versions %s, want 11 and 12", got)
	}
	if m := s.metadata("x"); m.MaxVersions != 2 || m.OldestVersion != 11 || m.CurrentVersion != 12 {
		t.Errorf("metadata %v", m)
	}
	// Another setting leaves the limit alone.
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", CasRequired: new(false)})
	s.put("x", "13")
	if got := s.numbers("x"); got != "[12 13]" {
		t.Errorf("versions %s, want 12 and 13", got)
	}
	s.unchanged("x", func() {
		refused(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", MaxVersions: new(uint64(10_001))},
			&engine.InvalidError{Why: "max_versions is above 10000"})
	})
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", MaxVersions: new(uint64(10_000))})
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", MaxVersions: new(uint64(0))})
	if m := s.metadata("x"); m.MaxVersions != 0 {
		t.Errorf("back to the default: %v", m)
	}
}

// Delete hides, undelete brings back, destroy is for good.
func TestDeletion(t *testing.T) {
	s := newShop(t)
	s.put("x", "one", "two", "three")
	s.Advance(time.Second)
	if ask(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "x"}).Index == 0 { // the current one
		t.Error("the answer names no index")
	}
	s.gone("x", 0, &engine.GoneError{Version: 3})
	s.want("x", 2, "two")
	if v := s.metadata("x").Versions[2]; !v.Deleted || !v.DeletedAt.AsTime().Equal(opening.Add(time.Second)) {
		t.Errorf("the deleted version is shown as %v", v)
	}
	ask(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "x", Versions: numbersOf(1, 1, 3)}) // once more does no harm
	s.gone("x", 1, &engine.GoneError{Version: 1})
	ask(s, s.Undelete(), &conclavev1.UndeleteSecretRequest{Path: "x", Versions: numbersOf(3, 2)})
	s.want("x", 0, "three")
	ask(s, s.Destroy(), &conclavev1.DestroySecretRequest{Path: "x", Versions: numbersOf(1, 2)})
	s.gone("x", 1, &engine.GoneError{Version: 1, Destroyed: true})
	s.gone("x", 2, &engine.GoneError{Version: 2, Destroyed: true})
	ask(s, s.Destroy(), &conclavev1.DestroySecretRequest{Path: "x", Versions: numbersOf(2)}) // nor does this
	if got := s.numbers("x"); got != "[1-x 2x 3]" {
		t.Errorf("versions %s", got)
	}
	all := numbersOf(1, 2, 3)
	s.unchanged("x", func() { // one that cannot be spoils the rest
		refused(s, s.Undelete(), &conclavev1.UndeleteSecretRequest{Path: "x", Versions: all}, &engine.GoneError{Version: 1, Destroyed: true})
		refused(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "x", Versions: append(all, 4)}, noVersion(4))
		refused(s, s.Destroy(), &conclavev1.DestroySecretRequest{Path: "x", Versions: numbersOf(3, 0)}, noVersion(0))
		refused(s, s.Undelete(), &conclavev1.UndeleteSecretRequest{Path: "x"}, &engine.InvalidError{Why: "undelete needs the numbers of versions"})
		refused(s, s.Destroy(), &conclavev1.DestroySecretRequest{Path: "x"}, &engine.InvalidError{Why: "destroy needs the numbers of versions"})
	})
	refused(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "none"}, noSecret)
	refused(s, s.Undelete(), &conclavev1.UndeleteSecretRequest{Path: "none", Versions: all}, noSecret)
	refused(s, s.Destroy(), &conclavev1.DestroySecretRequest{Path: "none", Versions: all}, noSecret)
	// A secret with settings and no version has nothing to delete or to read.
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "bare"})
	refused(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "bare"}, noSecret)
	s.gone("bare", 0, noSecret)
}

// A version ends after its ttl, or after the secret's own setting; undelete lifts it.
func TestExpiry(t *testing.T) {
	s := newShop(t)
	ask(s, s.Put(), &conclavev1.PutSecretRequest{Path: "x", Data: text("brief"), Ttl: ttl(time.Minute)})
	s.Advance(time.Minute - 1)
	s.want("x", 0, "brief")
	if v := ask(s, s.Get(), &conclavev1.GetSecretRequest{Path: "x"}).Secret.Version; v.Deleted || !v.DeletedAt.AsTime().Equal(opening.Add(time.Minute)) {
		t.Errorf("a version that will expire is shown as %v", v)
	}
	s.Advance(1)
	s.gone("x", 0, &engine.GoneError{Version: 1})
	ask(s, s.Undelete(), &conclavev1.UndeleteSecretRequest{Path: "x", Versions: numbersOf(1)})
	s.Advance(time.Hour)
	s.want("x", 0, "brief")

	// The secret's own setting counts where a request says nothing.
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", DeleteVersionAfter: ttl(10 * time.Second)})
	s.put("x", "default")
	ask(s, s.Put(), &conclavev1.PutSecretRequest{Path: "x", Data: text("own"), Ttl: ttl(30 * time.Second)})
	ask(s, s.Rollback(), &conclavev1.RollbackSecretRequest{Path: "x", Version: 1})
	s.Advance(10 * time.Second)
	if got := s.numbers("x"); got != "[1 2- 3 4-]" {
		t.Errorf("after ten seconds: %s", got)
	}
	s.Advance(20 * time.Second)
	if got := s.numbers("x"); got != "[1 2- 3- 4-]" {
		t.Errorf("after thirty seconds: %s", got)
	}
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", DeleteVersionAfter: ttl(0)}) // none again
	s.put("x", "stays")
	s.Advance(1000 * time.Hour)
	s.want("x", 0, "stays")

	s.unchanged("x", func() {
		for _, bad := range []*durationpb.Duration{{}, ttl(-1), {Seconds: -1 << 62}} {
			refused(s, s.Put(), &conclavev1.PutSecretRequest{Path: "x", Data: text("v"), Ttl: bad}, &engine.InvalidError{Why: "the ttl of a version must be above zero"})
		}
		refused(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", DeleteVersionAfter: ttl(-time.Second)},
			&engine.InvalidError{Why: "delete_version_after must not be negative"})
		// Beyond what the machine takes: refused somewhere, and without effect.
		long := &conclavev1.PutSecretRequest{Path: "x", Data: text("v"), Ttl: &durationpb.Duration{Seconds: 1 << 40}}
		if _, err := enginetest.Call(s.Store, enginetest.Mount, s.Put(), long); err == nil {
			t.Error("a version may live for 34,000 years")
		}
	})
}

// Settings come and go one by one, custom metadata as a whole, before or after
// the first version; deleting the metadata deletes everything.
func TestMetadata(t *testing.T) {
	s := newShop(t)
	refused(s, s.GetMetadata(), &conclavev1.GetMetadataRequest{Path: "x"}, noSecret)
	refused(s, s.DeleteMetadata(), &conclavev1.DeleteMetadataRequest{Path: "x"}, noSecret)
	custom := map[string]string{"owner": "ünal", "empty": ""}
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", MaxVersions: new(uint64(3)), CasRequired: new(true),
		DeleteVersionAfter: ttl(time.Hour), CustomMetadata: custom, SetCustomMetadata: true})
	want := &conclavev1.SecretMetadata{Path: "x", MaxVersions: 3, CasRequired: true, DeleteVersionAfter: ttl(time.Hour),
		CustomMetadata: custom, CreatedAt: timestamp(opening), UpdatedAt: timestamp(opening)}
	if got := s.metadata("x"); !proto.Equal(got, want) {
		t.Errorf("before the first version: got %v, want %v", got, want)
	}
	s.Advance(time.Second)
	later := timestamp(opening.Add(time.Second))
	ask(s, s.Put(), &conclavev1.PutSecretRequest{Path: "x", Data: text("v"), Cas: new(uint64(0))})
	want.CurrentVersion, want.OldestVersion, want.UpdatedAt = 1, 1, later
	want.Versions = []*conclavev1.VersionInfo{{Version: 1, CreatedAt: later, DeletedAt: timestamp(opening.Add(time.Hour + time.Second))}}
	if got := s.metadata("x"); !proto.Equal(got, want) {
		t.Errorf("after the first version: got %v, want %v", got, want)
	}
	secret := ask(s, s.Get(), &conclavev1.GetSecretRequest{Path: "x"}).Secret
	if !reflect.DeepEqual(secret.CustomMetadata, custom) {
		t.Errorf("a read shows %v, want %v", secret.CustomMetadata, custom)
	}
	// What a request does not mention stays; without the flag custom metadata do, too.
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", CustomMetadata: map[string]string{"not": "set"}})
	if got := s.metadata("x"); !proto.Equal(got, want) {
		t.Errorf("after a request that sets nothing: got %v, want %v", got, want)
	}
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", SetCustomMetadata: true})
	want.CustomMetadata = nil
	if got := s.metadata("x"); !proto.Equal(got, want) {
		t.Errorf("after custom metadata were removed: got %v, want %v", got, want)
	}

	ask(s, s.DeleteMetadata(), &conclavev1.DeleteMetadataRequest{Path: "x"})
	refused(s, s.GetMetadata(), &conclavev1.GetMetadataRequest{Path: "x"}, noSecret)
	s.gone("x", 1, noSecret)
	s.put("x", "anew") // no check-and-set any more, no expiry, number 1
	if got := s.metadata("x"); got.CurrentVersion != 1 || got.CasRequired || got.MaxVersions != 0 || got.Versions[0].DeletedAt != nil {
		t.Errorf("a new secret at the old path has %v", got)
	}
}

// Custom metadata have their limits, and a request beyond one changes nothing.
func TestMetadataLimits(t *testing.T) {
	s := newShop(t)
	many := map[string]string{}
	for i := range 65 {
		many[fmt.Sprint(i)] = ""
	}
	for why, m := range map[string]map[string]string{
		"custom metadata has more than 64 keys":              many,
		"a key of custom metadata must have 1 to 128 bytes":  {"": "v"},
		"a value of custom metadata has more than 512 bytes": {"k": strings.Repeat("v", 513)},
		"custom metadata is not valid UTF-8":                 {"k": "\xff"},
	} {
		r := &conclavev1.PutMetadataRequest{Path: "x", MaxVersions: new(uint64(1)), SetCustomMetadata: true, CustomMetadata: m}
		s.unchanged("x", func() { refused(s, s.PutMetadata(), r, &engine.InvalidError{Why: why}) })
	}
	long := &conclavev1.PutMetadataRequest{Path: "x", SetCustomMetadata: true, CustomMetadata: map[string]string{strings.Repeat("k", 129): ""}}
	refused(s, s.PutMetadata(), long, &engine.InvalidError{Why: "a key of custom metadata must have 1 to 128 bytes"})
	delete(many, "0")
	many[strings.Repeat("k", 128)] = strings.Repeat("v", 512)
	delete(many, "1")
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "x", SetCustomMetadata: true, CustomMetadata: many})
	if got := s.metadata("x").CustomMetadata; !reflect.DeepEqual(got, many) {
		t.Errorf("at the limits: got %v", got)
	}
}

// A listing shows each name once, sorted, page by page; a directory without
// names does not exist, but for the root.
func TestList(t *testing.T) {
	s := newShop(t)
	list := func(path, after string, limit uint32) *conclavev1.ListSecretsResponse {
		t.Helper()
		return ask(s, s.List(), &conclavev1.ListSecretsRequest{Path: path, After: after, Limit: limit})
	}
	if got := list("", "", 0); len(got.Names) != 0 || got.More {
		t.Errorf("the empty root lists %v", got)
	}
	for _, p := range []string{"b", "a", "a/x", "a/y/z", "c/1", "c/2"} {
		s.put(p, "v")
	}
	ask(s, s.PutMetadata(), &conclavev1.PutMetadataRequest{Path: "d"}) // settings alone are listed
	ask(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "b"})     // and so is what is deleted
	all := []string{"a", "a/", "b", "c/", "d"}
	for limit := uint32(1); limit <= 6; limit++ {
		var got []string
		for after, more := "", true; more; {
			page := list("", after, limit)
			if len(page.Names) > int(limit) || len(page.Names) == 0 || page.Index == 0 {
				t.Fatalf("a page of %d after %q: %v", limit, after, page)
			}
			got, after, more = append(got, page.Names...), page.Names[len(page.Names)-1], page.More
		}
		if !slices.Equal(got, all) {
			t.Errorf("in pages of %d: got %v, want %v", limit, got, all)
		}
	}
	for path, want := range map[string]string{"/": "[a a/ b c/ d]", "a": "[x y/]", "a/": "[x y/]", "a/y": "[z]", "c": "[1 2]"} {
		if got := list(path, "", 0); fmt.Sprint(got.Names) != want {
			t.Errorf("%q lists %v, want %s", path, got.Names, want)
		}
	}
	for _, none := range []string{"none", "b", "a/x", "a/y/z/"} {
		refused(s, s.List(), &conclavev1.ListSecretsRequest{Path: none}, noDirectory)
	}
	if got := list("a", "z", 0); len(got.Names) != 0 || got.More { // past the end is no error
		t.Errorf("past the end: %v", got)
	}
	ask(s, s.DeleteMetadata(), &conclavev1.DeleteMetadataRequest{Path: "c/1"})
	if got := list("c", "", 0); fmt.Sprint(got.Names) != "[2]" {
		t.Errorf("after a secret was removed: %v", got.Names)
	}
}

// A page holds at most a thousand names, whatever is asked for.
func TestListIsBounded(t *testing.T) {
	s := newShop(t)
	tx := s.Begin(enginetest.Mount)
	for i := range 1001 {
		if err := tx.SetLimits(engine.Path{fmt.Sprintf("%04d", i)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []uint32{0, 1000, 1001, 1 << 31, 1<<32 - 1} {
		got := ask(s, s.List(), &conclavev1.ListSecretsRequest{Limit: limit})
		if len(got.Names) != 1000 || !got.More {
			t.Errorf("limit %d: %d names, more %v", limit, len(got.Names), got.More)
		}
		rest := ask(s, s.List(), &conclavev1.ListSecretsRequest{Limit: limit, After: got.Names[999]})
		if fmt.Sprint(rest.Names) != "[1000]" || rest.More {
			t.Errorf("limit %d: the second page is %v", limit, rest)
		}
	}
}

// What is too large, malformed or empty is refused before anything is staged.
func TestRefusedData(t *testing.T) {
	s := newShop(t)
	s.put("x", "before")
	field := func(f *conclavev1.Field) map[string]*conclavev1.Field { return map[string]*conclavev1.Field{"f": f} }
	json := func(j string) map[string]*conclavev1.Field {
		return field(&conclavev1.Field{Kind: &conclavev1.Field_Json{Json: j}})
	}
	for why, data := range map[string][]map[string]*conclavev1.Field{
		"a secret needs at least one field":       {nil, {}},
		"a field needs a name":                    {{"": text("v")["v"]}},
		"a field has no value":                    {field(nil), field(&conclavev1.Field{})},
		"a field given as JSON is not valid JSON": {json(""), json("{"), json("1 2"), json("NaN")},
		"the fields cannot be encoded":            {text("\xff"), {"\xff": text("v")["v"]}},
	} {
		for _, d := range data {
			s.unchanged("x", func() {
				refused(s, s.Put(), &conclavev1.PutSecretRequest{Path: "x", Data: d}, &engine.InvalidError{Why: why})
			})
		}
	}
	ask(s, s.Put(), &conclavev1.PutSecretRequest{Path: "x", Data: json(` [1, "two", null] `)})
}

// The limit on a value is on its encoded form, to the byte.
func TestTooLarge(t *testing.T) {
	for _, limit := range []int{0, 100} { // 0: the default
		s := newShop(t)
		s.MaxValueBytes = limit
		bytes := s.maxValue()
		fits := strings.Repeat("v", bytes-100)
		if limit == 100 {
			fits = ""
		}
		for {
			encoded, err := s.encode(text(fits + "v"))
			if err != nil {
				break
			}
			if len(encoded) > bytes {
				t.Fatalf("%d bytes pass a limit of %d", len(encoded), bytes)
			}
			fits += "v"
		}
		s.put("x", fits)
		s.want("x", 0, fits)
		s.unchanged("x", func() {
			r := &conclavev1.PutSecretRequest{Path: "x", Data: text(fits + "v")}
			refused(s, s.Put(), r, &engine.TooLargeError{What: "secret", Bytes: bytes + 1, Limit: bytes})
		})
		many := make([]uint64, 1001)
		for i := range many {
			many[i] = 1
		}
		s.unchanged("x", func() {
			want := &engine.TooLargeError{What: "list of versions", Bytes: 1001, Limit: 1000}
			refused(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "x", Versions: many}, want)
			refused(s, s.Undelete(), &conclavev1.UndeleteSecretRequest{Path: "x", Versions: many}, want)
			refused(s, s.Destroy(), &conclavev1.DestroySecretRequest{Path: "x", Versions: many}, want)
		})
		ask(s, s.Delete(), &conclavev1.DeleteSecretRequest{Path: "x", Versions: many[1:]})
	}
}
