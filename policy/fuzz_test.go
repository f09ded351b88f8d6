package policy

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse: no text makes Parse panic or hang, every refusal has a place within
// the text, and what Format makes of a policy parses to the same policy and stays
// as it is when formatted again.
func FuzzParse(f *testing.F) {
	for _, text := range storyPolicies(f) {
		f.Add(text)
	}
	f.Add("name = \"n\" # c\n , /* x\n y */ # d\n/* x\n y */ path \"x\" {}")
	f.Add("path \"x\" { allowed_parameters = { a = [ # c\n 1 /* d */ , /* e */ # f\n {b = 2}, ] } }")
	f.Add("\ufeffpath \"x\" {}")
	f.Add(strings.Repeat("[", 100))
	f.Add("{\"path\":" + strings.Repeat("[", 100))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("p", text)
		if err != nil {
			checkPlace(t, text, err)
			if _, err := Format(text); err == nil {
				t.Fatal("Format accepts what Parse refuses")
			}
			return
		}
		formatted, err := Format(text)
		if err != nil {
			t.Fatalf("Format: %v", err)
		}
		q, err := Parse("p", formatted)
		if err != nil {
			t.Fatalf("%v in what Format made:\n%s", err, formatted)
		}
		if got, want := dump(q), dump(p); got != want {
			t.Fatalf("after Format\n%s\nwant\n%s", got, want)
		}
		if again, err := Format(formatted); err != nil || again != formatted {
			t.Fatalf("formatted again (%v)\n%s\nwant\n%s", err, again, formatted)
		}
		if got, want := strings.Count(formatted, "#"), strings.Count(text, "#"); got < want && !startsJSON(text) && !strings.Contains(text, "\\") {
			t.Fatalf("%d of %d # are left in\n%s", got, want, formatted)
		}
		Compile(p).Decide(Request{Path: text, Capability: CapabilityRead})
	})
}

func checkPlace(t *testing.T, text string, err error) {
	t.Helper()
	var bad *SyntaxError
	if !errors.As(err, &bad) {
		t.Fatalf("%v is no SyntaxError", err)
	}
	lines := strings.Split(text, "\n")
	if bad.Line < 1 || bad.Line > len(lines) || bad.Column < 1 || bad.Column > len(lines[bad.Line-1])+1 || bad.Problem == "" {
		t.Fatalf("%+v is no place in %q", bad, text)
	}
}

// storyPolicies are the inputs of the stories, as seeds.
func storyPolicies(t testing.TB) []string {
	files, err := filepath.Glob("testdata/stories/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	var found []string
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq(string(text), "\n----") {
			if i := strings.LastIndex(part, "\npolicy "); i >= 0 {
				_, input, _ := strings.Cut(part[i+1:], "\n")
				found = append(found, input)
			}
		}
	}
	return found
}

// FuzzDecide holds the compiled rules to the slow evaluator for patterns and
// paths of any bytes. Each line of rules is capabilities, a space, a pattern.
func FuzzDecide(f *testing.F) {
	f.Add("read,list secret/+/a*\ndeny secret/*\nupdate secret/+", "secret/b/ab", byte(1))
	f.Add("list a\nlist a/\nread *", "a/", byte(5))
	f.Add("read +/+/\nread +//*\nread ++/a\nread \nread /", "a//b", byte(1))
	f.Add("read secret/+/*\ndeny \nupdate secret/+", "", byte(1))
	f.Add("read a/+/+/b\nread a/+/b/+\nread a/*", "a/b/b/b", byte(1))
	f.Fuzz(func(t *testing.T, rules, path string, capability byte) {
		var text strings.Builder
		for line := range strings.Lines(rules) {
			names, pattern, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			list, err := json.Marshal(strings.Split(names, ","))
			if err != nil {
				t.Fatal(err)
			}
			text.WriteString("path " + quote(strings.ToValidUTF8(pattern, "?")) + " { capabilities = " + string(list) + " }\n")
		}
		p, err := Parse("p", text.String())
		if err != nil || p.Templated() || len(path) > 200 {
			return
		}
		compare(t, Compile(p), []*Policy{p}, Request{Path: path, Capability: 1 << (capability % 8)})
	})
}

// FuzzExpand: whatever an identity's values are, a template never makes a rule
// match a path that is not the value at its place.
func FuzzExpand(f *testing.F) {
	for _, value := range []string{"alice", "*", "+", "a/b", "a*", "..", "", "{{identity.entity.id}}", "\x00", "é"} {
		f.Add(value, "own/alice/x")
	}
	p, err := Parse("p", `path "own/{{identity.entity.name}}/+" { capabilities = ["read"] }
path "never/{{identity.entity.name}}" { capabilities = ["deny"] }`)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value, path string) {
		acl := Compile(p.Expand(func(string) (string, bool) { return value, true }))
		if got := acl.Decide(Request{Path: path, Capability: CapabilityRead}); got.Allowed {
			parts := strings.Split(strings.TrimLeft(path, "/"), "/")
			if len(parts) != 3 || parts[0] != "own" || parts[1] != value {
				t.Fatalf("with the value %q, %q is granted by %q", value, path, got.Pattern)
			}
		}
		never := "never/" + value
		if got := acl.Decide(Request{Path: never, Capability: CapabilityRead}); got.Why != Denied {
			t.Fatalf("with the value %q, %q is %v", value, never, got.Why)
		}
	})
}
