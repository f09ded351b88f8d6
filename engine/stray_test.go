package engine_test

import (
	"testing"

	"github.com/conclave-secrets/conclave/engine"
)

// A stray route answers what nothing else has: a path with another verb is refused
// for its verb, and so is the listing of a directory whose paths others answer.
func TestStrayRoutes(t *testing.T) {
	type request struct {
		Path string `path:"path"`
	}
	route := func(verb engine.Verb, path string, stray bool) engine.Route {
		return engine.NewRoute(engine.Route{Verb: verb, Path: path, Stray: stray},
			func(*engine.Call, *request) (*struct{}, error) { return nil, nil })
	}
	routes := engine.CompileRoutes([]engine.Route{route(engine.VerbRead, "{path*}", true), route(engine.VerbList, "{path*}", true),
		route(engine.VerbRead, "data/{path...}", false), route(engine.VerbWrite, "done/{path...}", false)})
	for _, c := range []struct {
		verb  engine.Verb
		path  string
		found string // the path of the route; "": none has this verb
	}{
		{engine.VerbRead, "data/a", "data/{path...}"},
		{engine.VerbRead, "done/a", ""},
		{engine.VerbList, "data/a", ""},
		{engine.VerbList, "data", ""},
		{engine.VerbList, "done/", ""},
		{engine.VerbRead, "data", "{path*}"},
		{engine.VerbRead, "x/y", "{path*}"},
		{engine.VerbList, "", "{path*}"},
		{engine.VerbList, "x", "{path*}"},
		{engine.VerbWrite, "x", ""},
	} {
		m, known := routes.Find(c.verb, c.path)
		switch {
		case !known:
			t.Errorf("%v %s: no route has the path", c.verb, c.path)
		case c.found == "" && m.Route != nil:
			t.Errorf("%v %s: found %s", c.verb, c.path, m.Route.Path)
		case c.found != "" && (m.Route == nil || m.Route.Path != c.found):
			t.Errorf("%v %s: found %+v, want %s", c.verb, c.path, m.Route, c.found)
		}
	}
	if at := routes.At("data/a"); len(at) != 1 || at[0].Path != "data/{path...}" {
		t.Errorf("at data/a: %+v", at)
	}
}
