package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestLimits holds each limit at its edge: so much is accepted, one more is not,
// and the error names the limit.
func TestLimits(t *testing.T) {
	paths := func(n int) string {
		var text strings.Builder
		for i := range n {
			fmt.Fprintf(&text, "path \"%d\" {}\n", i)
		}
		return text.String()
	}
	comment := func(n int) string { return "#" + strings.Repeat("x", n-1) }
	pattern := func(n int) string { return "path \"" + strings.Repeat("a", n) + "\" {}" }
	reason := func(n int) string {
		return "path \"a\" { required_reason_pattern = \"" + strings.Repeat("a", n) + "\" }"
	}
	nested := func(n int) string { // the path's brace and the object's are two
		return "path \"a\" { allowed_parameters = { a = " + strings.Repeat("[", n-2) + strings.Repeat("]", n-2) + " } }"
	}
	nestedJSON := func(n int) string { // the policy's, path's, pattern's and object's braces are four
		return `{"path": {"a": {"allowed_parameters": {"a": ` + strings.Repeat("[", n-4) + strings.Repeat("]", n-4) + `}}}}`
	}
	for name, c := range map[string]struct {
		make  func(n int) string
		limit int
	}{
		"text": {comment, MaxText}, "rules": {paths, MaxRules}, "pattern": {pattern, MaxPattern},
		"reason": {reason, MaxReasonPattern}, "depth": {nested, MaxDepth}, "depth of JSON": {nestedJSON, MaxDepth},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse("p", c.make(c.limit)); err != nil {
				t.Errorf("at the limit: %v", err)
			}
			_, err := Parse("p", c.make(c.limit+1))
			var bad *SyntaxError
			if !errors.As(err, &bad) {
				t.Fatalf("above the limit: got %v, want a SyntaxError", err)
			}
			if len(err.Error()) > 300 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// TestInvalidText: bytes that are not UTF-8 are refused where they stand.
func TestInvalidText(t *testing.T) {
	_, err := Parse("p", "path \"a\" {}\n é\xff")
	want := SyntaxError{2, 3, "the policy is not UTF-8 text"}
	var got *SyntaxError
	if !errors.As(err, &got) || *got != want {
		t.Errorf("got %v, want %v", err, &want)
	}
}

// TestCompileDoesNotChangePolicies: one policy serves many ACLs, with others
// that share its patterns.
func TestCompileDoesNotChangePolicies(t *testing.T) {
	a, errA := Parse("a", `path "p" { capabilities = ["create"] allowed_parameters = { x = ["1"] } required_parameters = ["x"] }`)
	b, errB := Parse("b", `path "p" { capabilities = ["update"] allowed_parameters = { x = ["2"] y = [] } required_parameters = ["y"] }`)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	before := dump(a, b)
	alone := Compile(a)
	Compile(a, b)
	Compile(b, a, nil)
	if after := dump(a, b); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	req := Request{Path: "p", Capability: CapabilityCreate, Parameters: func(yield func(string, any) bool) { yield("x", "2") }}
	if got := alone.Decide(req).Why; got != ParameterNotAllowed {
		t.Errorf("an ACL compiled before knows of the other policy: %v", got)
	}
}

// TestParametersAreReadLate: nothing looks at the parameters of a request unless
// the rule that decides speaks of them.
func TestParametersAreReadLate(t *testing.T) {
	p, err := Parse("p", `path "free" { capabilities = ["create"] }
path "bound" { capabilities = ["create", "list"] required_parameters = ["x"] }`)
	if err != nil {
		t.Fatal(err)
	}
	acl := Compile(p)
	for _, c := range []struct {
		path       string
		capability Capability
		want       bool
	}{{"free", CapabilityCreate, false}, {"bound", CapabilityUpdate, false}, {"bound", CapabilityList, false}, {"bound", CapabilityCreate, true}, {"none", CapabilityCreate, false}} {
		read := false
		acl.Decide(Request{Path: c.path, Capability: c.capability, Parameters: func(yield func(string, any) bool) {
			read = true
			yield("x", 1.0)
		}})
		if read != c.want {
			t.Errorf("%v %s: parameters were read: %v, want %v", c.capability, c.path, read, c.want)
		}
	}
}

// TestUnjudgeableValues: a value that is not JSON is refused where values are
// constrained, and where any value will do it is not looked at.
func TestUnjudgeableValues(t *testing.T) {
	p, err := Parse("p", `path "allowed" { capabilities = ["create"] allowed_parameters = { x = ["1"] } }
path "denied" { capabilities = ["create"] denied_parameters = { x = ["1"] } }
path "any" { capabilities = ["create"] allowed_parameters = { x = [] } }`)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Verdict{"allowed": ParameterNotAllowed, "denied": ParameterDenied, "any": Granted} {
		for _, value := range []any{make(chan int), []any{struct{}{}}, map[string]any{"a": []byte("x")}, json.Number("1e99999999999")} {
			req := Request{Path: path, Capability: CapabilityCreate, Parameters: func(yield func(string, any) bool) { yield("x", value) }}
			if got := Compile(p).Decide(req).Why; got != want {
				t.Errorf("%s with %T: got %v, want %v", path, value, got, want)
			}
		}
	}
}

// TestZeroValuesRefuse: what was never filled in grants nothing.
func TestZeroValuesRefuse(t *testing.T) {
	if d := (Decision{}); d.Allowed || d.Why == Granted {
		t.Errorf("the zero Decision is %+v", d)
	}
	p, err := Parse("p", `path "a" { capabilities = ["read", "sudo"] }`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Capability{0, CapabilityDeny, 1 << 12, CapabilityRead | CapabilityUpdate} {
		if d := Compile(p).Decide(Request{Path: "a", Capability: c}); d.Allowed {
			t.Errorf("capability %v: %+v", c, d)
		}
	}
	templated, err := Parse("p", `path "a/{{identity.entity.id}}" { capabilities = ["read"] }`)
	if err != nil {
		t.Fatal(err)
	}
	if d := Compile(templated).Decide(Request{Path: "a/{{identity.entity.id}}", Capability: CapabilityRead}); d.Allowed {
		t.Errorf("a template that is not filled grants: %+v", d)
	}
}

// TestExpandWarns: a grant that is left out because of a value is reported at its
// place, without the value; the policy itself stays as it was.
func TestExpandWarns(t *testing.T) {
	p, err := Parse("p", "path \"x\" {}\npath \"own/{{identity.entity.name}}\" { capabilities = [\"read\"] }")
	if err != nil {
		t.Fatal(err)
	}
	q := p.Expand(func(string) (string, bool) { return "can*ary", true })
	got := fmt.Sprint(q.Warnings()[1:])
	if want := "[line 2, column 6: this rule is left out: the value of identity.entity.name may not stand in a path]"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if len(p.Warnings()) != 1 || !p.Templated() || q.Templated() {
		t.Error("Expand changed the policy it was given, or left its result templated")
	}
	long := p.Expand(func(string) (string, bool) { return strings.Repeat("a", MaxPattern), true })
	if n := len(long.Warnings()); n != 2 {
		t.Errorf("a value that makes the pattern too long: %d warnings, want 2", n)
	}
}

// TestExplanationIsJSON: an Explanation survives encoding and decoding.
func TestExplanationIsJSON(t *testing.T) {
	p, err := Parse("ops", `path "a/*" { capabilities = ["read"] }`)
	if err != nil {
		t.Fatal(err)
	}
	want := Compile(p).Explain(Request{Path: "a/b", Capability: CapabilityUpdate, Sudo: true})
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Explanation
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) || !strings.Contains(string(text), `"why":"capability-missing"`) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if err := new(Verdict).UnmarshalText([]byte("maybe")); err == nil {
		t.Error("an unknown verdict was read")
	}
}
