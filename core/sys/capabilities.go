package sys

import (
	"strings"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/internal/redact"
)

// capabilities is what the routes of this file need of a transaction.
type capabilities interface {
	OwnToken() (*core.Token, error)
	TokenByText(text redact.Bytes) (*core.Token, error)
	TokenByAccessor(accessor string) (*core.Token, error)
	CapabilitiesOf(token *core.Token, path string) ([]string, error)
}

type ownCapabilities struct {
	Paths engine.Strings `json:"paths" doc:"the paths asked about"`
	Path  engine.Strings `json:"path" doc:"the same, under its old name"`
}

type tokenCapabilities struct {
	ownCapabilities
	Token    string `json:"token" doc:"the token asked about"`
	Accessor string `json:"accessor" doc:"the accessor of the token asked about"`
}

func (r *ownCapabilities) all() []string { return append(r.Paths, r.Path...) }

// capabilityAnswer has a key for each path, and "capabilities" when there is one.
type capabilityAnswer map[string][]string

func capabilityRoutes() []engine.Route {
	route := func(path, summary string) engine.Route {
		return engine.Route{Verb: engine.VerbWrite, Path: path, Summary: summary}
	}
	return []engine.Route{
		engine.NewRoute(route("capabilities-self", "Tell what the caller may do on paths."),
			func(c *engine.Call, r *ownCapabilities) (*capabilityAnswer, error) {
				token, err := ask[capabilities](c).OwnToken()
				return answerCapabilities(c, r.all(), token, err)
			}),
		engine.NewRoute(route("capabilities", "Tell what a token may do on paths."),
			func(c *engine.Call, r *tokenCapabilities) (*capabilityAnswer, error) {
				token, err := ask[capabilities](c).TokenByText(redact.New([]byte(r.Token)))
				return answerCapabilities(c, r.all(), token, err)
			}),
		engine.NewRoute(route("capabilities-accessor", "Tell what the token of an accessor may do on paths."),
			func(c *engine.Call, r *tokenCapabilities) (*capabilityAnswer, error) {
				token, err := ask[capabilities](c).TokenByAccessor(r.Accessor)
				return answerCapabilities(c, r.all(), token, err)
			}),
	}
}

// maxCapabilityPaths bounds how much one request may ask.
const maxCapabilityPaths = 1000

func answerCapabilities(c *engine.Call, paths []string, token *core.Token, err error) (*capabilityAnswer, error) {
	switch {
	case err != nil:
		return nil, err
	case token == nil:
		return nil, &engine.InvalidError{Why: "invalid token"}
	case len(paths) == 0:
		return nil, &engine.InvalidError{Why: "paths must be supplied"}
	case len(paths) > maxCapabilityPaths:
		return nil, &engine.InvalidError{Why: "too many paths in one request"}
	}
	out := capabilityAnswer{}
	for _, path := range paths {
		granted, err := ask[capabilities](c).CapabilitiesOf(token, strings.TrimPrefix(path, "/"))
		if err != nil {
			return nil, err
		}
		out[path] = granted
		if len(paths) == 1 {
			out["capabilities"] = granted
		}
	}
	return &out, nil
}
