package policy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// A generator makes small policies and requests that often meet: few segments
// over few letters.
type generator struct{ *rand.Rand }

func (g generator) pick(words ...string) string { return words[g.IntN(len(words))] }

func (g generator) segments(words ...string) string {
	n := 1 + g.IntN(4)
	parts := make([]string, n)
	for i := range parts {
		parts[i] = g.pick(words...)
	}
	return strings.Join(parts, "/")
}

func (g generator) pattern() string {
	p := g.segments("a", "b", "ab", "+", "+", "a+")
	switch {
	case g.IntN(3) == 0 && !strings.HasSuffix(p, "+"):
		p += "*"
	case g.IntN(6) == 0:
		p += "/*"
	case g.IntN(8) == 0:
		p += "/"
	case g.IntN(20) == 0:
		p = "*"
	}
	return p
}

func (g generator) path() string {
	p := g.segments("a", "b", "ab", "aba", "c")
	if g.IntN(3) == 0 {
		p += "/"
	}
	return p
}

func (g generator) capabilities() string {
	if g.IntN(6) == 0 {
		return `"deny"`
	}
	var list []string
	for _, name := range capabilityNames[:8] {
		if g.IntN(2) == 0 {
			list = append(list, fmt.Sprintf("%q", name))
		}
	}
	return strings.Join(list, ", ")
}

func (g generator) parameters(key string) string {
	var entries []string
	for _, name := range []string{"p", "Q", "*"} {
		if g.IntN(3) == 0 && name != "*" {
			entries = append(entries, fmt.Sprintf("%q = [%s]", name, g.pick(``, `"x"`, `"x", "y"`, `"x*"`, `"*"`)))
		} else if g.IntN(8) == 0 && name == "*" {
			entries = append(entries, `"*" = []`)
		}
	}
	return fmt.Sprintf(" %s = { %s }", key, strings.Join(entries, ", "))
}

func (g generator) block() string {
	b := fmt.Sprintf("path %q { capabilities = [%s]", g.pattern(), g.capabilities())
	if g.IntN(4) == 0 {
		b += g.parameters("allowed_parameters")
	}
	if g.IntN(4) == 0 {
		b += g.parameters("denied_parameters")
	}
	if g.IntN(6) == 0 {
		b += ` required_parameters = ["P"]`
	}
	if g.IntN(6) == 0 {
		b += " min_wrapping_ttl = " + g.pick("0", "10", "20")
	}
	if g.IntN(6) == 0 {
		b += " max_wrapping_ttl = " + g.pick("20", "30")
	}
	if g.IntN(8) == 0 {
		b += " required_reason = true"
	}
	if g.IntN(8) == 0 {
		b += fmt.Sprintf(" required_reason_pattern = %q", g.pick("a+", "a|b", "[a-z]*"))
	}
	return b + " }\n"
}

func (g generator) policies(t testing.TB) []*Policy {
	var made []*Policy
	for _, name := range []string{"one", "two", "three"}[:1+g.IntN(3)] {
		var text string
		for range 1 + g.IntN(5) {
			text += g.block()
		}
		p, err := Parse(name, text)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		made = append(made, p)
	}
	return made
}

func (g generator) request() Request {
	req := Request{
		Path:       g.path(),
		Capability: 1 << g.IntN(8),
		Sudo:       g.IntN(6) == 0,
		Wrapped:    g.IntN(2) == 0,
		Reason:     g.pick("", "a", "aa", "b", "A", " a "),
	}
	if req.Wrapped {
		req.WrapTTL = time.Duration(g.IntN(40)) * time.Second
	}
	if g.IntN(2) == 0 {
		parameters := map[string]any{}
		for range g.IntN(3) {
			parameters[g.pick("p", "q", "r")] = g.pick("x", "y", "xy", "z")
		}
		req.Parameters = maps.All(parameters)
	}
	return req
}

// TestAgainstSlowEvaluator asks the compiled rules and the slow evaluator the
// same questions. It also holds Explain to Decide, and MayAny to both: a mount
// in which anything is granted is never hidden.
func TestAgainstSlowEvaluator(t *testing.T) {
	const seed = 20261101
	sets, perSet := 25_000, 5
	if testing.Short() || raceEnabled {
		sets = 2_000
	}
	g := generator{rand.New(rand.NewPCG(seed, 1))}
	verdicts := map[Verdict]int{}
	for range sets {
		policies := g.policies(t)
		acl := Compile(policies...)
		for range perSet {
			req := g.request()
			verdicts[compare(t, acl, policies, req)]++
		}
	}
	t.Logf("seed %d, %d questions, verdicts %v", seed, sets*perSet, verdicts)
	for v := NoRule; v <= Granted; v++ {
		if verdicts[v] < sets/1000 {
			t.Errorf("verdict %v came up %d times; the generator does not reach it", v, verdicts[v])
		}
	}
}

// compare fails the test if two answers differ, and returns the verdict.
func compare(t testing.TB, acl *ACL, policies []*Policy, req Request) Verdict {
	t.Helper()
	got := acl.Decide(req)
	why, pattern := slowDecide(policies, req)
	if got.Why != why || got.Pattern != pattern || got.Allowed != (why == Granted) {
		t.Fatalf("%v %q sudo=%v: got %+v, want %v by %q, of\n%s", req.Capability, req.Path, req.Sudo, got, why, pattern, dump(policies...))
	}
	e := acl.Explain(req)
	if e.Decision != got || (len(e.Rules) > 0) != (why != NoRule) || why != NoRule && (e.Rules[0].Pattern != pattern || !e.Rules[0].Decided) {
		t.Fatalf("%v %q: decided %+v, explained %+v, of\n%s", req.Capability, req.Path, got, e, dump(policies...))
	}
	mount, _, below := strings.Cut(req.Path, "/")
	if got.Allowed && below && mount != "" && !acl.MayAny(mount+"/") {
		t.Fatalf("%v %q is granted, but MayAny hides %q, of\n%s", req.Capability, req.Path, mount, dump(policies...))
	}
	return got.Why
}

// dump writes out all that policies say, without places.
func dump(policies ...*Policy) string {
	var out strings.Builder
	for _, p := range policies {
		fmt.Fprintf(&out, "policy %q templated=%v\n", p.name, p.templated)
		for _, r := range p.rules {
			fmt.Fprintf(&out, "  %q %q glob=%v templated=%v [%v] wrap %v..%v allowed %q denied %q required %q reason %v %q\n",
				r.pattern.text, r.pattern.pieces, r.pattern.glob, r.templated, r.capabilities, r.minWrap, r.maxWrap,
				r.allowed, r.denied, r.required, r.needsReason, r.reasonText)
		}
	}
	return out.String()
}
