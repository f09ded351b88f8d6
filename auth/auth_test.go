package auth_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/auth/authtest"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
)

// Which addresses a list of ranges admits, in whatever family they are spelt.
func TestRanges(t *testing.T) {
	for _, c := range []struct {
		ranges, address string
		want            bool
	}{
		{"", "10.0.0.1", true}, {"", "", true}, {"10.0.0.0/8", "", false}, {"10.0.0.0/8", "10.255.0.1", true}, {"10.0.0.0/8", "11.0.0.1", false},
		{"10.0.0.1", "10.0.0.1", true}, {"10.0.0.1", "10.0.0.2", false}, {"10.9.9.9/8", "10.0.0.1", true}, {"10.0.0.0/8", "::ffff:10.0.0.1", true},
		{"::ffff:10.0.0.0/104", "10.1.1.1", true}, {"::ffff:10.0.0.1", "10.0.0.1", true}, {"2001:db8::/32", "2001:db8:1::1", true}, {"0.0.0.0/0", "::1", false},
		{"fe80::/10", "fe80::1%eth0", true}, {"192.0.2.0/24,10.0.0.0/8", "10.0.0.1", true},
	} {
		var list []string
		if c.ranges != "" {
			list = strings.Split(c.ranges, ",")
		}
		ranges, err := auth.ParseRanges("f", list)
		if err != nil {
			t.Fatal(c.ranges, err)
		}
		var a netip.Addr
		if c.address != "" {
			a = netip.MustParseAddr(c.address)
		}
		if got := auth.Admits(ranges, a); got != c.want {
			t.Errorf("%q admits %q: %v", c.ranges, c.address, got)
		}
	}
	for _, bad := range []string{"", "x", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0", "10.0.0.0/8/8", "fe80::1%eth0/64"} {
		var invalid *engine.InvalidError
		if r, err := auth.ParseRanges("f", []string{bad}); !errors.As(err, &invalid) {
			t.Errorf("%q is read as %v, %v", bad, r, err)
		}
	}
	if _, err := auth.ParseRanges("f", make([]string, 257)); err == nil {
		t.Error("a list without bounds is taken")
	}
}

// A range within others is one whose addresses they all admit.
func TestWithin(t *testing.T) {
	for _, c := range []struct {
		inner, outer []string
		want         bool
	}{
		{nil, nil, true}, {[]string{"10.0.0.0/8"}, nil, true}, {nil, []string{"10.0.0.0/8"}, true}, {[]string{"10.1.0.0/16"}, []string{"10.0.0.0/8"}, true},
		{[]string{"10.0.0.0/7"}, []string{"10.0.0.0/8"}, false}, {[]string{"10.1.0.0/16", "11.0.0.0/8"}, []string{"10.0.0.0/8"}, false}, {[]string{"::/0"}, []string{"0.0.0.0/0"}, false},
	} {
		if got := auth.Within(c.inner, c.outer); got != c.want {
			t.Errorf("%v within %v: %v", c.inner, c.outer, got)
		}
	}
}

// Names are folded, and those that are accepted are safe wherever they go.
func FuzzFoldName(f *testing.F) {
	for _, s := range []string{"Web-1", "ann@x.test", "-", "a/b", "..", "\u212a", "a.", "", "a\x00"} {
		f.Add(s)
	}
	safe := regexp.MustCompile(`\A[a-z0-9_]([a-z0-9_.@+-]*[a-z0-9_])?\z`)
	f.Fuzz(func(t *testing.T, s string) {
		name, err := auth.FoldName("role", s)
		switch again, twice := auth.FoldName("role", name); {
		case err != nil && len(s) > 20 && strings.Contains(err.Error(), s):
			t.Fatalf("the error repeats the name: %v", err)
		case err == nil && (!safe.MatchString(name) || twice != nil || again != name):
			t.Fatalf("%q is folded to %q, and that to %q, %v", s, name, again, twice)
		case err != nil && safe.MatchString(s) && len(s) <= 128:
			t.Fatalf("%q is refused: %v", s, err)
		}
	})
}

// Fields that were not sent change nothing, and newer names count before older ones.
func TestTokenFields(t *testing.T) {
	read := func(body string) *auth.TokenFields {
		f := &auth.TokenFields{}
		if err := json.Unmarshal([]byte(body), f); err != nil {
			t.Fatal(body, err)
		}
		return f
	}
	var s engine.TokenSettings
	for _, c := range []struct{ body, want string }{
		{`{"policies":"B,a","ttl":"1m","max_ttl":3600,"period":5,"bound_cidrs":"10.0.0.1","num_uses":"3"}`,
			`{"token_policies":["a","b"],"token_ttl":60,"token_max_ttl":3600,"token_explicit_max_ttl":0,"token_period":5,"token_bound_cidrs":["10.0.0.1/32"],"token_no_default_policy":false,"token_num_uses":3,"token_type":"default"}`},
		{`{}`, `{"token_policies":["a","b"],"token_ttl":60,"token_max_ttl":3600,"token_explicit_max_ttl":0,"token_period":5,"token_bound_cidrs":["10.0.0.1/32"],"token_no_default_policy":false,"token_num_uses":3,"token_type":"default"}`},
		{`{"token_policies":[],"policies":"c","token_ttl":0,"token_num_uses":0,"token_period":"0s","token_bound_cidrs":"","token_no_default_policy":"true","token_type":"batch","token_explicit_max_ttl":"2h"}`,
			`{"token_policies":[],"token_ttl":0,"token_max_ttl":3600,"token_explicit_max_ttl":7200,"token_period":0,"token_bound_cidrs":[],"token_no_default_policy":true,"token_num_uses":0,"token_type":"batch"}`},
	} {
		if err := read(c.body).Apply(&s); err != nil {
			t.Fatal(c.body, err)
		}
		if got, err := json.Marshal(auth.Shown(s)); err != nil || string(got) != c.want {
			t.Errorf("after %s\ngot  %s\nwant %s", c.body, got, c.want)
		}
	}
	for _, bad := range []string{
		`{"token_policies":"root"}`, `{"token_policies":"ROOT"}`, `{"token_policies":"a/../b"}`, `{"token_policies":"` + strings.Repeat("a", 300) + `"}`,
		`{"token_num_uses":-1}`, `{"token_ttl":"3h"}`, `{"token_type":"x"}`, `{"token_type":"batch","token_period":5}`, `{"token_bound_cidrs":"x"}`,
		`{"token_period":"3h"}`,
	} {
		own := s
		own.Type = ""
		var invalid *engine.InvalidError
		if err := read(bad).Apply(&own); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Metadata comes in every spelling that clients have used.
func TestMetadata(t *testing.T) {
	want := auth.Metadata{"a": "b", "n": "1"}
	for _, text := range []string{`{"a":"b","n":1}`, `"{\"a\":\"b\",\"n\":1}"`, `"a=b,n=1"`, `["a=b","n=1"]`} {
		var m auth.Metadata
		if err := json.Unmarshal([]byte(text), &m); err != nil || !reflect.DeepEqual(m, want) {
			t.Errorf("%s: %v, %v", text, m, err)
		}
	}
	for _, text := range []string{`"{"`, `{"a":{}}`, `7`, `"hunter2"`} {
		var m auth.Metadata
		if err := json.Unmarshal([]byte(text), &m); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, %v", text, m, err)
		}
	}
	long := strings.Repeat("x", 513)
	many := auth.Metadata{}
	for i := range 65 {
		many[long[:i+1]] = ""
	}
	for _, m := range []auth.Metadata{{"": "x"}, {long: "x"}, {"x": long}, many} {
		if m.Check() == nil {
			t.Errorf("metadata of %d keys is taken", len(m))
		}
	}
}

// A list goes over as many pages as it takes, and stops where it should.
func TestList(t *testing.T) {
	store := enginetest.NewStore(time.Unix(0, 0))
	tx := store.Begin("m")
	const many = 2345
	for i := range many {
		if err := tx.PutRecord(engine.Path{"d", string(rune('a'+i/100)) + string(rune('a'+i%100/10)) + string(rune('a'+i%10))}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		q    auth.ListRequest
		want int
	}{{auth.ListRequest{}, many}, {auth.ListRequest{Limit: 7}, 7}, {auth.ListRequest{Limit: 1500}, 1500}, {auth.ListRequest{After: "bzz"}, many - 200}, {auth.ListRequest{Limit: 9999}, many}} {
		r, err := auth.List(store.Begin("m"), engine.Path{"d"}, c.q, "thing")
		if err != nil || len(r.Keys) != c.want {
			t.Errorf("%+v: %v", c.q, err)
		}
	}
	var missing *engine.NotFoundError
	if _, err := auth.List(store.Begin("m"), engine.Path{"none"}, auth.ListRequest{}, "thing"); !errors.As(err, &missing) {
		t.Error(err)
	}
	if _, err := auth.List(store.Begin("m"), engine.Path{"d"}, auth.ListRequest{Limit: -1}, "thing"); err == nil {
		t.Error("a negative limit is taken")
	}
}

// Ids have the shape that clients check for.
func TestNewUUID(t *testing.T) {
	dice := authtest.Dice(1)
	seen := map[string]bool{}
	for range 1000 {
		id, err := auth.NewUUID(dice)
		if err != nil || !regexp.MustCompile(`\A[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\z`).MatchString(id) || seen[id] {
			t.Fatal(id, err)
		}
		seen[id] = true
	}
	if _, err := auth.NewUUID(strings.NewReader("short")); err == nil {
		t.Error("an id is drawn from too little")
	}
}

// A refusal is an invalid request to those who do not know it, and keeps to itself why.
func TestCredentialError(t *testing.T) {
	err := error(&auth.CredentialError{Kind: auth.Denied, Text: "permission denied", Why: "no such role"})
	var invalid *engine.InvalidError
	if !errors.As(err, &invalid) || invalid.Why != "permission denied" || strings.Contains(err.Error(), "role") {
		t.Error(err, invalid)
	}
}

// What a token is called.
func TestDisplayName(t *testing.T) {
	for _, c := range []struct{ path, name, want string }{
		{"auth/approle/", "", "approle"}, {"auth/userpass/", "ann", "userpass-ann"}, {"auth/team/jwt/", "x", "team-jwt-x"}, {"userpass/", "ann", "userpass-ann"},
	} {
		if got := auth.DisplayName(engine.Mount{Path: c.path}, c.name); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
