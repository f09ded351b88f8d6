package jwt

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/conclave-secrets/conclave/engine"
)

// clockAt is the time on the wall in these tests.
var clockAt = time.Unix(1_800_000_000, 0)

func said(t testing.TB, text string) claims {
	t.Helper()
	c, err := object([]byte(text))
	if err != nil {
		t.Fatal(text, err)
	}
	return c
}

// When a token is valid, from what it says and from what it does not say. Times
// are seconds relative to now.
func TestTimes(t *testing.T) {
	strict := role{ClockSkew: -1}
	for _, c := range []struct {
		token string // with @N for now + N
		role  role
		want  string
	}{
		{`{"exp":@1}`, strict, ""}, {`{"exp":@0}`, strict, "the token has expired"}, {`{"exp":@-59}`, role{}, ""},
		{`{"exp":@-60}`, role{}, "the token has expired"}, {`{"exp":@-90}`, role{ClockSkew: 120}, ""},
		{`{"exp":@100,"nbf":@0}`, strict, ""}, {`{"exp":@100,"nbf":@1}`, strict, "the token is not valid yet"},
		{`{"exp":@100,"nbf":@60}`, role{}, ""}, {`{"exp":@100,"nbf":@61}`, role{}, "the token is not valid yet"},
		{`{"exp":@100,"nbf":@-9,"iat":@61}`, role{}, "the token was issued in the future"},
		{`{"iat":@-149}`, strict, ""}, {`{"iat":@-150}`, strict, "the token has expired"}, {`{"iat":@-10}`, role{Expiration: 5, ClockSkew: -1}, "the token has expired"},
		{`{"exp":@151}`, strict, "the token is not valid yet"}, {`{"exp":@151}`, role{NotBefore: 200, ClockSkew: -1}, ""},
		{`{"nbf":@-10,"iat":@-200}`, strict, ""},
		{`{}`, role{}, "the token says no time"}, {`{"exp":"soon"}`, role{}, "a time in the token is none"}, {`{"exp":null,"iat":@0}`, role{}, "a time in the token is none"},
		{`{"exp":1e300}`, role{}, "a time in the token is none"}, {`{"exp":-5}`, role{}, "a time in the token is none"}, {`{"exp":@0.5}`, strict, ""},
	} {
		token := regexp.MustCompile(`@(-?\d+)`).ReplaceAllStringFunc(c.token, func(m string) string {
			d := must(time.ParseDuration(m[1:] + "s"))
			return json.Number(must(json.Marshal(clockAt.Add(d).Unix()))).String()
		})
		if got := said(t, token).timely(&c.role, clockAt); got != c.want {
			t.Errorf("%s, %+v: got %q, want %q", c.token, c.role, got, c.want)
		}
	}
}

// What a role may ask of a token.
func TestAdmission(t *testing.T) {
	const token = `{"iss":"i","sub":"s","aud":["a","b"],"n":7,"ok":true,"groups":["g1","g2"],"k8s":{"ns":"prod","a/b":["x"]},"path":"team/a/x","empty":""}`
	bound := func(name string, values ...string) role {
		return role{Audiences: engine.Strings{"a"}, Claims: map[string]engine.Strings{name: values}, ClaimsType: "string"}
	}
	glob := func(r role) role { r.ClaimsType = "glob"; return r }
	for _, c := range []struct {
		role   role
		issuer string
		want   bool
	}{
		{role{Audiences: engine.Strings{"a"}}, "", true}, {role{Audiences: engine.Strings{"x", "b"}}, "i", true},
		{role{Audiences: engine.Strings{"x"}}, "", false}, {role{}, "", false}, {role{Audiences: engine.Strings{"a"}}, "j", false},
		{role{Audiences: engine.Strings{"a"}, Subject: "s"}, "", true}, {role{Audiences: engine.Strings{"a"}, Subject: "S"}, "", false},
		{bound("sub", "s"), "", true}, {bound("sub", "t", "s"), "", true}, {bound("n", "7"), "", true}, {bound("ok", "true"), "", true},
		{bound("groups", "g2"), "", true}, {bound("groups", "g3"), "", false}, {bound("none", ""), "", false}, {bound("empty", ""), "", true},
		{bound("/k8s/ns", "prod"), "", true}, {bound("/k8s/a~1b/0", "x"), "", true}, {bound("/k8s/a~1b/00", "x"), "", false},
		{bound("/k8s/a~1b/1", "x"), "", false}, {bound("/sub/x", "s"), "", false}, {bound("k8s", "prod"), "", false},
		{bound("path", "team/*"), "", false}, {glob(bound("path", "team/*")), "", true}, {glob(bound("path", "*/b/*")), "", false},
	} {
		if got := said(t, token).admitted(&c.role, c.issuer) == ""; got != c.want {
			t.Errorf("%+v issuer %q: %v", c.role, c.issuer, got)
		}
	}
}

// Patterns mean what they would as regular expressions with .* for each star.
func FuzzGlob(f *testing.F) {
	f.Add("a*b", "axxb")
	f.Add("*aa*aa*", "aaa")
	f.Add("a*a", "a")
	f.Add("**", "")
	f.Add("\xdd", "\xb5")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		parts := strings.Split(pattern, "*")
		if len(parts) > 20 || len(s) > 1000 || !utf8.ValidString(pattern) || !utf8.ValidString(s) {
			return
		}
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		want := regexp.MustCompile(`(?s)\A` + strings.Join(parts, ".*") + `\z`).MatchString(s)
		if got := glob(pattern, s); got != want {
			t.Fatalf("%q on %q: got %v, want %v", pattern, s, got, want)
		}
	})
}
