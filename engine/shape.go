package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// A shape is how the fields of a request are bound: made once, by NewRoute.
type shape struct {
	of     reflect.Type
	fields []field
	body   int // index of the field that takes the whole body; -1: none
}

type field struct {
	index []int
	name  string
	path  bool // of the path, not of the body
	doc   string
	kind  reflect.Type
}

// shapeOf reads the tags of a request. It panics on a table that could never
// work: that is a mistake in the program, met when it starts.
func shapeOf(t reflect.Type, path string) *shape {
	s := &shape{of: t, body: -1}
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("engine: request %v is no struct", t))
	}
	s.add(t, nil)
	bound := map[string]bool{}
	for _, f := range s.fields {
		if f.path {
			bound[f.name] = true
		}
	}
	for _, segment := range strings.Split(path, "/") {
		if name, ok := variable(segment); ok && !bound[name] {
			panic(fmt.Sprintf("engine: path %s: request %v has no field for {%s}", path, t, name))
		}
	}
	return s
}

func (s *shape) add(t reflect.Type, at []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(append([]int(nil), at...), i)
		switch {
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			s.add(f.Type, index)
		case f.Tag.Get("body") != "":
			if f.Type != reflect.TypeFor[Object]() || len(at) > 0 {
				panic(fmt.Sprintf("engine: request %v: the body must be an Object at the top", t))
			}
			s.body = i
		case f.Tag.Get("path") != "":
			s.fields = append(s.fields, field{index, f.Tag.Get("path"), true, f.Tag.Get("doc"), f.Type})
		case f.Tag.Get("json") != "":
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			s.fields = append(s.fields, field{index, name, false, f.Tag.Get("doc"), f.Type})
		case f.IsExported():
			panic(fmt.Sprintf("engine: request %v: field %s has no tag", t, f.Name))
		}
	}
}

// variable returns the name in {name}, {name...} or {name*}.
func variable(segment string) (string, bool) {
	inner, ok := strings.CutPrefix(segment, "{")
	if !ok {
		return "", false
	}
	inner = strings.TrimSuffix(inner, "}")
	return strings.TrimRight(inner, ".*"), true
}

// Input is what a transport knows of a request beside its path.
type Input struct {
	Body  Object     // nil: there was none
	Query url.Values // parameters that stand for fields of the body
}

// bind makes the route's request. A field that is not sent stays zero; one that
// is sent and not known is ignored, as clients of all ages rely on. The error is
// an InvalidError that names the field and never its value.
func (s *shape) bind(variables map[string]string, in Input) (any, error) {
	v := reflect.New(s.of)
	for _, f := range s.fields {
		to := v.Elem().FieldByIndex(f.index)
		var raw json.RawMessage
		if f.path {
			to.SetString(variables[f.name])
			continue
		}
		if sent, ok := in.Body[f.name]; ok {
			raw = sent
		} else if sent, ok := in.Query[f.name]; ok && len(sent) > 0 {
			text, err := json.Marshal(sent[0])
			if err != nil {
				return nil, fmt.Errorf("reading a parameter: %w", err)
			}
			raw = text
		} else {
			continue
		}
		if string(raw) == "null" {
			continue
		}
		if err := json.Unmarshal(raw, to.Addr().Interface()); err != nil {
			return nil, &InvalidError{fmt.Sprintf("the field %q %s", f.name, problem(err))}
		}
	}
	if s.body >= 0 {
		v.Elem().Field(s.body).Set(reflect.ValueOf(in.Body))
	}
	return v.Interface(), nil
}

// problem is what is wrong with a field, without what it holds: the errors of
// encoding/json may quote the input.
func problem(err error) string {
	switch err := err.(type) {
	case *json.UnmarshalTypeError:
		return "cannot be a JSON " + strings.Fields(err.Value)[0]
	case *json.SyntaxError:
		return "is not valid JSON"
	}
	return err.Error() // of the types in value.go, which quote nothing
}

// Routes is the table of a mount, compiled for matching.
type Routes struct {
	routes []compiled
}

type compiled struct {
	Route
	segments []string
}

// CompileRoutes prepares a table. Where several routes match a path, the one with
// more literal segments, from the left, wins; stray routes come last.
func CompileRoutes(routes []Route) *Routes {
	t := &Routes{}
	for _, r := range routes {
		if r.serve == nil {
			panic("engine: route " + r.Path + " was not made with NewRoute")
		}
		t.routes = append(t.routes, compiled{r, strings.Split(r.Path, "/")})
	}
	sort.SliceStable(t.routes, func(i, j int) bool {
		if a, b := t.routes[i].Stray, t.routes[j].Stray; a != b {
			return b
		}
		return before(t.routes[i].segments, t.routes[j].segments)
	})
	return t
}

// before orders literal segments before variables, one segment before the rest.
func before(a, b []string) bool {
	rank := func(s []string, i int) int {
		switch {
		case i >= len(s):
			return 3
		case !strings.HasPrefix(s[i], "{"):
			return 0
		case strings.ContainsAny(s[i], ".*"):
			return 2
		}
		return 1
	}
	for i := range max(len(a), len(b)) {
		if x, y := rank(a, i), rank(b, i); x != y {
			return x < y
		}
	}
	return false
}

// A Match is a route found for a path.
type Match struct {
	Route     *Route
	variables map[string]string
}

// Find returns the route for a verb on a path relative to the mount. ok is false
// if no route has the path; a nil Route means that none has this verb on it.
func (t *Routes) Find(verb Verb, path string) (m Match, ok bool) {
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	taken := false // by a route that is not stray
	for i := range t.routes {
		r := &t.routes[i]
		if r.Stray && !taken {
			taken = verb == VerbList && t.holds(segments)
		}
		if r.Stray && taken {
			break // stray routes come last
		}
		variables, fits := match(r.segments, segments)
		if !fits {
			continue
		}
		if r.Verb == verb {
			return Match{&r.Route, variables}, true
		}
		ok, taken = true, !r.Stray
	}
	return Match{}, ok || taken
}

// holds tells whether a directory has paths that routes answer. What is listed is a
// directory: its own name may be no path at all.
func (t *Routes) holds(dir []string) bool {
	inside := append(slices.Clone(dir), "x")
	return slices.ContainsFunc(t.routes, func(r compiled) bool {
		_, fits := match(r.segments, inside)
		return fits && !r.Stray
	})
}

// At lists the routes that have a path, whatever their verbs, for help.
func (t *Routes) At(path string) []Route {
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	var at []Route
	for i := range t.routes {
		if _, fits := match(t.routes[i].segments, segments); fits && !t.routes[i].Stray {
			at = append(at, t.routes[i].Route)
		}
	}
	return at
}

// All lists the routes, for help and OpenAPI.
func (t *Routes) All() []Route {
	all := make([]Route, len(t.routes))
	for i := range t.routes {
		all[i] = t.routes[i].Route
	}
	return all
}

func match(pattern, path []string) (map[string]string, bool) {
	var variables map[string]string
	set := func(name, value string) {
		if variables == nil {
			variables = map[string]string{}
		}
		variables[name] = value
	}
	for i, p := range pattern {
		name, isVariable := variable(p)
		switch {
		case isVariable && strings.HasSuffix(p, "...}"), isVariable && strings.HasSuffix(p, "*}"):
			end := pattern[i+1:] // literal segments may follow
			if len(path) < i+len(end) || !slices.Equal(path[len(path)-len(end):], end) {
				return nil, false
			}
			rest := strings.Join(path[i:len(path)-len(end)], "/")
			if rest == "" && strings.HasSuffix(p, "...}") {
				return nil, false
			}
			set(name, rest)
			return variables, true
		case i >= len(path):
			return nil, false
		case isVariable:
			if path[i] == "" {
				return nil, false
			}
			set(name, path[i])
		case p != path[i]:
			return nil, false
		}
	}
	return variables, len(path) == len(pattern)
}

// Bind makes the request that the route's handler takes.
func (m Match) Bind(in Input) (any, error) { return m.Route.request.bind(m.variables, in) }

// Creates tells whether a write would create what is not there yet. It is asked
// before it is known whether the caller may write: a request that makes no sense
// creates nothing, and the handler says so to those who may.
func (m Match) Creates(c *Call, request any) (bool, error) {
	if m.Route.exists == nil {
		return false, nil
	}
	exists, err := m.Route.exists(c, request)
	var (
		invalid *InvalidError
		path    *PathError
	)
	if errors.As(err, &invalid) || errors.As(err, &path) {
		return false, nil
	}
	return !exists, err
}

// Serve runs the handler once.
func (m Match) Serve(c *Call, request any) (Answer, error) {
	c.answer = Answer{}
	data, err := m.Route.serve(c, request)
	if err != nil {
		return Answer{}, err
	}
	c.answer.Data = data
	return c.answer, nil
}
