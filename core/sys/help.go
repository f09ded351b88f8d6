package sys

import (
	"fmt"
	"strings"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
)

type helpRequest struct {
	Path string `path:"path" doc:"the path asked about, with its mount"`
}

type helpAnswer struct {
	Help    string    `json:"help" doc:"for people"`
	SeeAlso []string  `json:"see_also"`
	OpenAPI *document `json:"openapi" doc:"the same, as an OpenAPI document"`
}

// helpRoutes answer for any path that is asked with ?help=1, too: see
// core.Request.Help.
func helpRoutes() []engine.Route {
	return []engine.Route{engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "internal/help/{path*}",
		Summary: "Tell what a path answers, or a whole mount."}, help)}
}

// help describes the routes of a path, or of its mount if none has it. No mount and
// no right in it look alike.
func help(c *engine.Call, r *helpRequest) (*helpAnswer, error) {
	mounts, err := ask[routeTables](c).MountRoutes()
	if err != nil {
		return nil, err
	}
	path := strings.Trim(r.Path, "/") + "/"
	for _, m := range mounts {
		rest, in := strings.CutPrefix(path, m.Path)
		if !in {
			continue
		}
		rest = strings.TrimSuffix(rest, "/")
		routes := m.At(rest)
		if rest == "" || len(routes) == 0 {
			routes = m.Of()
		}
		b := newBuilder(false)
		b.mount(m, routes)
		return &helpAnswer{Help: explainRoutes(m, routes), SeeAlso: []string{}, OpenAPI: b.doc}, nil
	}
	return nil, core.Denied("permission denied")
}

// explainRoutes writes routes out for people.
func explainRoutes(m core.MountRoutes, routes []engine.Route) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s is a mount of type %s: %s.\n", m.Path, m.Type, m.Summary)
	for _, r := range routes {
		if r.Stray {
			continue
		}
		fmt.Fprintf(&out, "\n%s %s%s\n    %s\n", strings.ToUpper(r.Verb.String()), m.Path, r.Path, r.Summary)
		if r.Description != "" {
			fmt.Fprintf(&out, "    %s\n", r.Description)
		}
		if r.Sudo {
			out.WriteString("    It takes the capability sudo, too.\n")
		}
		for _, p := range r.Parameters() {
			fmt.Fprintf(&out, "      %-28s %s\n", p.Name, p.Doc)
		}
		if r.TakesBody() {
			out.WriteString("      (any other field)            the caller's own\n")
		}
	}
	return out.String()
}
