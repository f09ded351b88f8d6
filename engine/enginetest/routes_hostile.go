package enginetest

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/engine"
)

// hostileJSON are values that may stand for any field of a body.
func hostileJSON() []string {
	deep := func(open, shut string, n int) string {
		return strings.Repeat(open, n) + `"` + canary + `"` + strings.Repeat(shut, n)
	}
	out := []string{`null`, `true`, `0`, `-1`, `1`, `1.5`, `-0`, `1e400`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775809`,
		`18446744073709551616`, `[]`, `{}`, `[null]`, `[[]]`, `["` + canary + `"]`, `[1,-1,"x"]`, `{"` + canary + `":null}`, `{"":{}}`,
		`{"cas":"` + canary + `"}`, `{"a":{"` + canary + `":[{}]}}`, `"\ud800` + canary + `"`, `{"x":"\udc00"}`,
		deep(`[`, `]`, 200), deep(`{"a":`, `}`, 200), deep(`[`, `]`, 5000), deep(`{"a":`, `}`, 5000),
		`[` + strings.Repeat(`1,`, 5000) + `1]`, `"` + strings.Repeat("x", 2<<20) + `"`}
	var many strings.Builder
	many.WriteString(`{"` + canary + `":"v"`)
	for i := range 2000 {
		fmt.Fprintf(&many, `,"k%d":"v"`, i)
	}
	out = append(out, many.String()+"}")
	for _, text := range hostileTexts {
		raw, err := json.Marshal(text)
		if err != nil {
			panic(err) // strings always marshal
		}
		out = append(out, string(raw))
	}
	return append(out, "\""+canary+"\xff\"")
}

// hostileAsks returns asks like a in which one thing is not as it should be: a
// segment of the path, a field of the body or the query, or the body as a whole.
func hostileAsks(a Ask, parameters []engine.Parameter, takesBody bool) iter.Seq[Ask] {
	return func(yield func(Ask) bool) {
		for b := range hostilePaths(a) {
			if !yield(b) {
				return
			}
		}
		names := []string{canary, ""}
		for _, p := range parameters {
			if !p.InPath {
				names = append(names, p.Name)
			}
		}
		if takesBody {
			names = append(names, strings.Repeat("n", 5000), "\u0000", "data", "ttl", "lease")
		}
		for b := range hostileFields(a, names) {
			if !yield(b) {
				return
			}
		}
		for _, body := range []string{"", "{}", "null"} {
			b := a
			b.Body = body
			if !yield(b) {
				return
			}
		}
	}
}

func hostilePaths(a Ask) iter.Seq[Ask] {
	return func(yield func(Ask) bool) {
		segments := strings.Split(a.Path, "/")
		for i := range segments {
			for _, text := range hostileTexts {
				own := slices.Clone(segments)
				own[i] = text
				b := a
				b.Path = strings.Join(own, "/")
				if !yield(b) {
					return
				}
			}
		}
		for _, path := range []string{"", "/", a.Path + "/", a.Path + "//", "/" + a.Path, a.Path + "/.."} {
			b := a
			b.Path = path
			if !yield(b) {
				return
			}
		}
	}
}

func hostileFields(a Ask, names []string) iter.Seq[Ask] {
	return func(yield func(Ask) bool) {
		in, err := a.input()
		if err != nil {
			panic(fmt.Sprintf("enginetest: body of an ask: %v", err)) // the test is wrong
		}
		for _, name := range names {
			for _, value := range hostileJSON() {
				body := engine.Object{}
				maps.Copy(body, in.Body)
				body[name] = json.RawMessage(value)
				b := a
				b.Body = spellObject(body)
				if !yield(b) {
					return
				}
			}
			for _, text := range hostileTexts {
				b := a
				b.Query = maps.Clone(a.Query)
				if b.Query == nil {
					b.Query = url.Values{}
				}
				b.Query[name] = []string{text}
				if !yield(b) {
					return
				}
			}
		}
	}
}

// spellObject writes an object with its values as they are: json.Marshal would
// refuse those that are not valid.
func spellObject(o engine.Object) string {
	var out strings.Builder
	for i, name := range slices.Sorted(maps.Keys(o)) {
		quoted, err := json.Marshal(name)
		if err != nil {
			panic(err) // strings always marshal
		}
		if i > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, "%s:%s", quoted, o[name])
	}
	return "{" + out.String() + "}"
}

// hostile: whatever an ask holds, nothing panics, a read stages nothing, what is
// staged can be committed, and no error and no warning tells what the ask said.
func (s *routeSuite) hostile() {
	o := s.run(&Probe{}, s.ask)
	if o.route == nil {
		return
	}
	for a := range hostileAsks(s.ask, o.route.Parameters(), o.route.TakesBody()) {
		s.survives(a)
		if s.Failed() {
			return
		}
	}
}

func (s *routeSuite) survives(a Ask) {
	s.Helper()
	own := *s.desk
	own.store = s.store.Fork()
	o := (&routeSuite{s.T, &own, a}).run(&Probe{}, a)
	s.harmless(o, a)
	if o.err != nil && strings.Contains(o.err.Error(), canary) {
		s.Errorf("the error repeats what the request says: %v", o.err)
	}
	for _, w := range o.answer.Warnings {
		if strings.Contains(w, canary) {
			s.Errorf("a warning repeats what the request says: %v", w)
		}
	}
	if o.err == nil && o.route != nil {
		if err := o.tx.Commit(); err != nil {
			s.Errorf("%.200v: what was staged cannot be committed: %v", a, err)
		}
	}
}

// FuzzRoutes lets a fuzzer make up asks: whatever arrives, a table answers or
// refuses in words that core can explain, and stages only what can be committed.
// The asks are where it begins.
func FuzzRoutes(f *testing.F, b engine.Backend, o RouteOptions, asks ...Ask) {
	for _, a := range asks {
		f.Add(byte(a.Verb), a.Path, a.Query.Encode(), []byte(a.Body))
	}
	d := newDesk(f, b, o)
	f.Fuzz(func(t *testing.T, verb byte, path, query string, body []byte) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return // the transport refuses it
		}
		a := Ask{Verb: engine.Verb(1 + verb%byte(engine.VerbDelete)), Path: path, Query: values, Body: string(body)}
		own := *d
		own.store = d.store.Fork()
		s := own.serve(&Probe{}, a)
		if s.route == nil {
			return
		}
		(&routeSuite{t, &own, a}).harmless(s, a)
		if s.err != nil && len(path) > 24 && strings.Contains(s.err.Error(), path) {
			t.Errorf("%v: the error repeats the path: %v", a, s.err)
		}
		if s.err == nil {
			if err := s.tx.Commit(); err != nil {
				t.Errorf("%v: what was staged cannot be committed: %v", a, err)
			}
		}
	})
}
