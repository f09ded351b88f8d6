package kv

import "github.com/conclave-secrets/conclave/engine"

type strayRequest struct {
	Path string `path:"path" doc:"a path without data/, metadata/, … before it"`
}

// strayRoutes answer paths of version 1 on a mount of version 2: with a warning,
// which clients show, instead of a bare "not there".
func strayRoutes() []engine.Route {
	route := func(verb engine.Verb, word string) engine.Route {
		return engine.NewRoute(engine.Route{Verb: verb, Path: "{path*}", Stray: true, Summary: "tell that a path is none of version 2"},
			func(c *engine.Call, r *strayRequest) (*struct{}, error) {
				c.Missing()
				c.Warn("Invalid path for a versioned K/V secrets engine (version 2): secrets are below data/ and metadata/. "+
					"On the command line, \"kv %s\" adds what is missing.", word)
				return nil, nil
			})
	}
	return []engine.Route{route(engine.VerbRead, "get"), route(engine.VerbWrite, "put"),
		route(engine.VerbList, "list"), route(engine.VerbDelete, "delete")}
}
