package password_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/password"
)

func parse(t testing.TB, text string) *password.Policy {
	t.Helper()
	p, err := password.Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

// policy is the text of a policy whose rules are pairs of charset and min-chars.
func policy(length int, rules ...any) string {
	var b strings.Builder
	fmt.Fprintf(&b, "length = %d\n", length)
	for i := 0; i < len(rules); i += 2 {
		fmt.Fprintf(&b, "rule \"charset\" {\n  charset = %q\n  min-chars = %d\n}\n", rules[i], rules[i+1])
	}
	return b.String()
}

// source is a random source that repeats.
func source(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

// Of all passwords that satisfy a policy, each is made as often as any other, and no
// other is: over alphabets so small that all can be listed.
func TestEachPasswordIsAsLikely(t *testing.T) {
	for _, rules := range [][]any{
		{"ab", 0},
		{"ab", 1, "cd", 1},
		{"ab", 2, "c", 1},
		{"abc", 1, "bcd", 2},         // they overlap
		{"ab", 1, "ab", 3, "abc", 0}, // one within another
		{"a", 3, "xy", 1},
	} {
		p := parse(t, policy(4, rules...))
		fit := map[string]int{}
		for i := range 6 * 6 * 6 * 6 {
			s := make([]byte, 4)
			for k := range s {
				s[k], i = "abcdxy"[i%6], i/6
			}
			if p.Satisfied(redact.New(s)) {
				fit[string(s)] = 0
			}
		}
		if got := p.Passwords(); got.Int64() != int64(len(fit)) {
			t.Errorf("%v: %v passwords are counted; there are %d", rules, got, len(fit))
		}
		const each = 200
		random := source(1)
		for range each * len(fit) {
			made, err := p.Generate(random)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := fit[string(made.Expose())]; !ok {
				t.Fatalf("%v: %q does not fit", rules, made.Expose())
			}
			fit[string(made.Expose())]++
		}
		var chi float64
		for _, n := range fit {
			chi += float64((n-each)*(n-each)) / each
		}
		// Of a fair source it is about its degrees of freedom; five deviations are one
		// in millions, and the seed is fixed.
		free := float64(len(fit) - 1)
		if limit := free + 5*math.Sqrt(2*free) + 5; chi > limit {
			t.Errorf("%v: chi square is %.1f over %d passwords, want at most %.1f", rules, chi, len(fit), limit)
		}
	}
}

// What is made satisfies the policy, whatever the policy.
func TestMadePasswordsSatisfy(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	letters := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!@#$^&*()äöü漢字"
	runes := []rune(letters)
	random, impossible := source(2), 0
	for range 300 {
		var rules []any
		for range 1 + rng.IntN(4) {
			from := rng.IntN(len(runes) - 1)
			rules = append(rules, string(runes[from:from+1+rng.IntN(len(runes)-from)]), rng.IntN(4))
		}
		text := policy(password.MinLength+rng.IntN(30), rules...)
		p, err := password.Parse(text)
		if err != nil {
			impossible++
			continue
		}
		made, err := p.Generate(random)
		if err != nil || !p.Satisfied(made) {
			t.Fatalf("%s\nmade %q, %v", text, made.Expose(), err)
		}
	}
	if impossible > 60 {
		t.Errorf("%d of 300 policies could not be used", impossible)
	}
}

// A password that lacks what a rule wants, is too short or has another character is
// none of the policy.
func TestSatisfied(t *testing.T) {
	p := parse(t, policy(5, "abc", 2, "123", 1))
	for s, want := range map[string]bool{"ab123": true, "abc12": true, "a1231": false, "abcab": false, "ab12": false, "ab1233": false, "ab12x": false, "": false} {
		if got := p.Satisfied(redact.New([]byte(s))); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestDefault(t *testing.T) {
	p := password.Default()
	made, err := p.Generate(source(3))
	if err != nil || made.Len() != 20 || !p.Satisfied(made) || p.Entropy() < 118 {
		t.Errorf("made %q with %d bits, %v", made.Expose(), p.Entropy(), err)
	}
}

// JSON says the same as HCL.
func TestJSON(t *testing.T) {
	a := parse(t, `{"length": 8, "rule": [{"charset": {"charset": "abc", "min-chars": 1}}, {"charset": {"charset": "123"}}]}`)
	b := parse(t, policy(8, "abc", 1, "123", 0))
	if a.Passwords().Cmp(b.Passwords()) != 0 {
		t.Errorf("%v passwords in JSON, %v in HCL", a.Passwords(), b.Passwords())
	}
}

// Each mistake is told, with its place.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ text, says string }{
		{"", "length"},
		{"length = 3\nrule \"charset\" { charset = \"ab\" }", "it must be 4 to 100"},
		{"length = 101\nrule \"charset\" { charset = \"ab\" }", "it must be 4 to 100"},
		{"length = 20", `no rule "charset"`},
		{"length = 20\nrule \"charset\" { charset = \"\" }", "rule 1: charset is empty"},
		{"length = 20\nrule \"charset\" { charset = \"a\\u0007b\" }", "U+0007, is not printable"},
		{"length = 20\nrule \"words\" { charset = \"ab\" }", `rule 1: no kind of rule is called "words"`},
		{"length = 20\nrule \"charset\" {\ncharset = \"ab\"\nmin-chars = 21\n}", "min-chars is 21"},
		{"length = 20\nrule \"charset\" {\ncharset = \"ab\"\nmin-chars = -1\n}", "min-chars is -1"},
		{"length = 20\nrule \"charset\" {\ncharset = \"ab\"\nmin-char = 1\n}", "line 4, column 1"},
		{"length = 4\n" + policy(0, "ab", 3, "cd", 3)[11:], "want more characters than it has"},
		{"length = twenty", "line 1, column 10"},
		{"length = 20\nrule {", "line"},
		{policy(90, "ab", 30, "cd", 30, "ef", 30), "too many combinations"},
		{"{", "line"},
		{"length = 20 # " + strings.Repeat("x", 1<<17), "bytes"},
		{policy(100, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1, "ab", 1), "rules"},
	} {
		_, err := password.Parse(c.text)
		if !errors.Is(err, password.ErrPolicy) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%.60q: %v, want %q", c.text, err, c.says)
		}
	}
}

// A source that fails makes no password.
func TestFailedSource(t *testing.T) {
	if made, err := password.Default().Generate(bytes.NewReader(nil)); err == nil || made.Len() != 0 {
		t.Errorf("made %d bytes, %v", made.Len(), err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(policy(8, "abc", 1))
	f.Add(`{"length": 8, "rule": {"charset": {"charset": "abc"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := password.Parse(text)
		if err != nil {
			return
		}
		if made, err := p.Generate(source(4)); err != nil || !p.Satisfied(made) {
			t.Errorf("made %q, %v", made.Expose(), err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	text := policy(64, "abcdefghijklmnopqrstuvwxyz", 3, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", 3, "0123456789", 3, "!@#^&*", 2)
	for b.Loop() {
		parse(b, text)
	}
}
