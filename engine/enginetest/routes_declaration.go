package enginetest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/engine"
)

// declaredWell checks a table without asking anything of it.
func declaredWell(t *testing.T, d *desk) {
	if d.backend.Type() == "" || d.backend.Summary() == "" {
		t.Errorf("the backend has type %q and summary %q", d.backend.Type(), d.backend.Summary())
	}
	seen := map[string]string{}
	for _, r := range d.routes.All() {
		name := r.Verb.String() + " " + r.Path
		if r.Verb < engine.VerbRead || r.Verb > engine.VerbDelete {
			t.Errorf("%s: there is no such verb", name)
		}
		if r.Summary == "" || strings.ContainsAny(r.Summary, "\n\r") || strings.HasSuffix(r.Summary, ".") {
			t.Errorf("%s: the summary %q is not one line without a full stop", name, r.Summary)
		}
		pattern, problem := anonymous(r.Path)
		if problem != "" {
			t.Errorf("%s: the path %s", name, problem)
			continue
		}
		key := r.Verb.String() + " " + pattern
		if other, twice := seen[key]; twice {
			t.Errorf("%s and %s claim the same", name, other)
		}
		seen[key] = name
		documented(t, name, r)
		bound(t, d, name, r)
	}
}

// anonymous is a pattern without the names of its variables.
func anonymous(pattern string) (out, problem string) {
	names, rests := map[string]bool{}, 0
	var segments []string
	for segment := range strings.SplitSeq(pattern, "/") {
		inner, isVariable := strings.CutPrefix(segment, "{")
		if !isVariable {
			if segment == "" || strings.ContainsAny(segment, "{}*") {
				return "", fmt.Sprintf("has the segment %q", segment)
			}
			segments = append(segments, segment)
			continue
		}
		inner, closed := strings.CutSuffix(inner, "}")
		name := strings.TrimRight(inner, ".*")
		kind := strings.TrimPrefix(inner, name)
		if !closed || name == "" || names[name] || !slices.Contains([]string{"", "...", "*"}, kind) {
			return "", fmt.Sprintf("has the segment %q", segment)
		}
		if names[name] = true; kind != "" {
			rests++
		}
		segments = append(segments, "{"+kind+"}")
	}
	if rests > 1 {
		return "", "has two variables for a rest"
	}
	return strings.Join(segments, "/"), ""
}

// documented: every field says what it is for, and variables are texts.
func documented(t *testing.T, name string, r engine.Route) {
	t.Helper()
	seen := map[string]bool{}
	for _, p := range r.Parameters() {
		if p.Doc == "" {
			t.Errorf("%s: the field %q has no doc", name, p.Name)
		}
		if seen[p.Name] {
			t.Errorf("%s: two fields are named %q", name, p.Name)
		}
		seen[p.Name] = true
		if p.InPath && p.Type.Kind() != reflect.String {
			t.Errorf("%s: the variable %q is a %v and no text", name, p.Name, p.Type)
		}
		if p.InPath && !slices.ContainsFunc([]string{"", "...", "*"}, func(kind string) bool {
			return slices.Contains(strings.Split(r.Path, "/"), "{"+p.Name+kind+"}")
		}) {
			t.Errorf("%s: the variable %q is not in the path", name, p.Name)
		}
	}
}

// bound: a path made from the pattern leads to this route, and its variables
// arrive in the request.
func bound(t *testing.T, d *desk, name string, r engine.Route) {
	t.Helper()
	want := map[string]string{}
	var path []string
	for i, segment := range strings.Split(r.Path, "/") {
		inner, isVariable := strings.CutPrefix(strings.TrimSuffix(segment, "}"), "{")
		if !isVariable {
			path = append(path, segment)
			continue
		}
		value := fmt.Sprintf("value%d", i)
		variable := strings.TrimRight(inner, ".*")
		if variable != inner {
			value += "/below"
		}
		want[variable] = value
		path = append(path, value)
	}
	match, _ := d.routes.Find(r.Verb, strings.Join(path, "/"))
	if match.Route == nil || match.Route.Path != r.Path {
		t.Errorf("%s: another route takes the path %s", name, strings.Join(path, "/"))
		return
	}
	request, err := match.Bind(engine.Input{})
	if err != nil {
		t.Errorf("%s: a request that sends nothing is not bound: %v", name, err)
		return
	}
	got := map[string]string{}
	variablesOf(reflect.ValueOf(request).Elem(), got)
	for variable, value := range want {
		if got[variable] != value {
			t.Errorf("%s: the variable %q is %q, want %q", name, variable, got[variable], value)
		}
	}
}

// variablesOf collects the fields of a request that are bound to its path.
func variablesOf(v reflect.Value, into map[string]string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if name := f.Tag.Get("path"); name != "" {
			into[name] = v.Field(i).String()
		} else if f.Anonymous && f.Type.Kind() == reflect.Struct {
			variablesOf(v.Field(i), into)
		}
	}
}
