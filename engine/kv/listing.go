package kv

import (
	"strings"

	"github.com/conclave-secrets/conclave/engine"
)

// keys lists a directory, as large as a listing may be.
func (e *Engine) keys(c *engine.Call, r *engine.ListRequest) (*engine.ListAnswer, error) {
	names, err := e.page(c, r, e.maxKeys())
	return &engine.ListAnswer{Keys: names}, err
}

func (e *Engine) page(c *engine.Call, r *engine.ListRequest, bound int) ([]string, error) {
	return r.Page(c, bound, func(after string, limit int) ([]string, bool, error) { return e.list(c, r.Path, after, limit) })
}

type detailedAnswer struct {
	Keys    []string                   `json:"keys"`
	KeyInfo map[string]*metadataAnswer `json:"key_info"` // of secrets; directories have none
}

func (k v2) listRoutes() []engine.Route {
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "metadata/{path*}",
			Summary: "list the secrets and directories in a directory"},
			func(c *engine.Call, r *engine.ListRequest) (*engine.ListAnswer, error) { return k.keys(c, r) }),
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "detailed-metadata/{path*}",
			Summary: "list a directory, with the metadata of the secrets directly in it"}, k.listDetailed),
	}
}

// listDetailed looks at every version of every secret that it lists, so its
// pages are those of the typed methods.
func (k v2) listDetailed(c *engine.Call, r *engine.ListRequest) (*detailedAnswer, error) {
	names, err := k.page(c, r, min(maxListed, k.maxKeys()))
	if err != nil {
		return nil, err
	}
	dir, err := engine.ParseDirectory(r.Path, k.MaxPathBytes)
	if err != nil {
		return nil, err
	}
	out := &detailedAnswer{Keys: names, KeyInfo: map[string]*metadataAnswer{}}
	for _, name := range names {
		if strings.HasSuffix(name, "/") {
			continue
		}
		p := append(dir[:len(dir):len(dir)], name)
		if out.KeyInfo[name], err = describeMetadata(c, p); err != nil {
			return nil, err
		}
	}
	return out, nil
}
