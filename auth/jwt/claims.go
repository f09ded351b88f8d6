package jwt

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// claims are what a token says that was found to be signed.
type claims map[string]any

// Where a role says nothing.
const (
	standardLeeway = 150 * time.Second
	standardSkew   = time.Minute
)

// at returns a claim: by its name, or by a JSON pointer (RFC 6901) if the name
// starts with a slash. nil: there is none.
func (c claims) at(name string) any {
	if !strings.HasPrefix(name, "/") {
		return c[name]
	}
	var value any = map[string]any(c)
	for part := range strings.SplitSeq(name[1:], "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		switch v := value.(type) {
		case map[string]any:
			value = v[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(v) || strconv.Itoa(i) != part {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

// text returns a single value as text.
func text(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// list returns a value, or a list of values, as texts. What has no text is left out.
func list(value any) (out []string) {
	many, ok := value.([]any)
	if !ok {
		many = []any{value}
	}
	for _, v := range many {
		if s, ok := text(v); ok {
			out = append(out, s)
		}
	}
	return out
}

// timely returns what speaks against the token's times at now, "" for nothing. A
// token must say at least one of them; what it does not say follows from the rest.
func (c claims) timely(r *role, now time.Time) string {
	var at [3]time.Time
	for i, name := range []string{"iat", "nbf", "exp"} {
		value, sent := c[name]
		if !sent {
			continue
		}
		t, ok := date(value)
		if !ok {
			return "a time in the token is none"
		}
		at[i] = t
	}
	issued, start, end := at[0], at[1], at[2]
	if issued.IsZero() && start.IsZero() && end.IsZero() {
		return "the token says no time"
	}
	if end.IsZero() {
		end = issued
		if start.After(end) {
			end = start
		}
		end = end.Add(r.Expiration.or(standardLeeway))
	}
	if start.IsZero() {
		if start = issued; start.IsZero() {
			start = end.Add(-r.NotBefore.or(standardLeeway))
		}
	}
	skew := r.ClockSkew.or(standardSkew)
	switch {
	case !now.Before(end.Add(skew)):
		return "the token has expired"
	case now.Before(start.Add(-skew)):
		return "the token is not valid yet"
	case now.Before(issued.Add(-skew)):
		return "the token was issued in the future"
	}
	return ""
}

// date reads a NumericDate (RFC 7519, section 2).
func date(value any) (time.Time, bool) {
	n, ok := value.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || f <= 0 || f > 253402300799 { // the end of the year 9999
		return time.Time{}, false
	}
	whole, fraction := math.Modf(f)
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}

// admitted returns what speaks against the token in the role, "" for nothing.
func (c claims) admitted(r *role, issuer string) string {
	if issuer != "" && c["iss"] != issuer {
		return "the issuer is another"
	}
	if r.Subject != "" && c["sub"] != r.Subject {
		return "the subject is another"
	}
	audiences := list(c["aud"])
	switch {
	case c["aud"] != nil && len(r.Audiences) == 0:
		return "the token is for an audience, and the role binds none" // it may be meant for somebody else
	case len(r.Audiences) > 0 && !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(r.Audiences, a) }):
		return "the audience is another"
	}
	for name, want := range r.Claims {
		if !matches(list(c.at(name)), want, r.ClaimsType == "glob") {
			return "a bound claim is missing or has another value"
		}
	}
	return ""
}

// matches tells whether one of the values is one of the wanted.
func matches(values []string, want engine.Strings, globs bool) bool {
	return slices.ContainsFunc(values, func(v string) bool {
		return slices.ContainsFunc(want, func(w string) bool { return v == w || globs && glob(w, v) })
	})
}

// glob tells whether s matches a pattern in which * stands for anything. Each
// piece between stars is taken as early as possible, so it takes one pass.
func glob(pattern, s string) bool {
	pieces := strings.Split(pattern, "*")
	if len(pieces) == 1 {
		return pattern == s
	}
	first, last := pieces[0], pieces[len(pieces)-1]
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for _, piece := range pieces[1 : len(pieces)-1] {
		_, rest, found := strings.Cut(s, piece)
		if !found {
			return false
		}
		s = rest
	}
	return strings.HasSuffix(s, last)
}
