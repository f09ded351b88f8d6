package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestStories holds what testdata tells: precedence, merging, parameters,
// wrapping, reasons, templates, errors and formatting, each as text that a
// reviewer can check against Vault's documentation. The commands are the methods
// of story below.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		s := &story{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.run(t, d) })
	})
}

type story struct {
	policies []*Policy
	identity map[string]string
}

func (s *story) run(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "policy":
		return s.policy(t, d)
	case "root":
		s.policies = append(s.policies, Root())
		return "ok\n"
	case "clear":
		s.policies = nil
		return "ok\n"
	case "identity":
		s.identity = map[string]string{}
		for line := range strings.Lines(d.Input) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
			s.identity[key] = value
		}
		return "ok\n"
	case "format":
		text, err := Format(d.Input)
		if err != nil {
			return err.Error() + "\n"
		}
		return text
	}
	return s.questions(t, d)
}

// policy adds a policy: `policy ops`, or `policy alone` after forgetting the
// others if it has the argument new.
func (s *story) policy(t *testing.T, d *datadriven.TestData) string {
	p, err := Parse(d.CmdArgs[0].Key, d.Input)
	if err != nil {
		return err.Error() + "\n"
	}
	if d.HasArg("new") {
		s.policies = nil
	}
	s.policies = append(s.policies, p)
	out := "ok\n"
	if p.Templated() {
		out = "ok, templated\n"
	}
	for _, w := range p.Warnings() {
		out += "warning: " + w.String() + "\n"
	}
	return out
}

func (s *story) acl(t *testing.T) *ACL {
	var filled []*Policy
	for _, p := range s.policies {
		filled = append(filled, p.Expand(func(name string) (string, bool) {
			v, ok := s.identity[name]
			if quoted, isQuoted := strings.CutPrefix(v, `"`); isQuoted {
				if err := json.Unmarshal([]byte(`"`+quoted), &v); err != nil {
					t.Fatalf("value of %s: %v", name, err)
				}
			}
			return v, ok
		}))
	}
	return Compile(filled...)
}

// questions answers each line of the input on a line of its own.
func (s *story) questions(t *testing.T, d *datadriven.TestData) string {
	acl := s.acl(t)
	var out strings.Builder
	for line := range strings.Lines(d.Input) {
		line = strings.TrimSpace(line)
		switch d.Cmd {
		case "ask":
			fmt.Fprintln(&out, describe(acl.Decide(question(t, line))))
		case "explain":
			e := acl.Explain(question(t, line))
			fmt.Fprintln(&out, e.Sentence)
			for _, r := range e.Rules {
				b, err := json.Marshal(r)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&out, "  %s\n", b)
			}
		case "capabilities":
			fmt.Fprintln(&out, strings.Join(acl.Capabilities(line), " "))
		case "may-any":
			fmt.Fprintln(&out, acl.MayAny(line))
		default:
			t.Fatalf("unknown command %q", d.Cmd)
		}
	}
	return out.String()
}

// question reads `capability[+sudo] path [wrap=TTL] [reason=TEXT;] [{JSON}]`.
func question(t *testing.T, line string) Request {
	t.Helper()
	var req Request
	head, body, _ := strings.Cut(line, " {")
	if body != "" {
		parameters := map[string]any{}
		decoder := json.NewDecoder(strings.NewReader("{" + body))
		decoder.UseNumber()
		if err := decoder.Decode(&parameters); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		req.Parameters = maps.All(parameters)
	}
	if before, reason, ok := strings.Cut(head, " reason="); ok {
		head, req.Reason = before, reason
	}
	fields := strings.Fields(head)
	for _, f := range fields[1:] {
		if ttl, ok := strings.CutPrefix(f, "wrap="); ok {
			d, err := time.ParseDuration(ttl)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			req.Wrapped, req.WrapTTL = true, d
		} else {
			req.Path = f
		}
	}
	name, sudo := strings.CutSuffix(fields[0], "+sudo")
	c, ok := ParseCapability(name)
	if !ok {
		t.Fatalf("%s: unknown capability", line)
	}
	req.Capability, req.Sudo = c, sudo
	return req
}

func describe(d Decision) string {
	text := d.Why.String()
	if d.Policy != "" {
		text += " by " + d.Policy
	}
	if d.Pattern != "" {
		text += " " + d.Pattern
	}
	if d.Parameter != "" {
		text += " on " + d.Parameter
	}
	if d.NeedsSudo {
		text += " needs sudo"
	}
	if d.Sudo {
		text += " sudo"
	}
	if d.Allowed != (d.Why == Granted) {
		text += " CONTRADICTION"
	}
	return text
}
