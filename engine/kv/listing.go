package kv

import (
	"strings"

	"github.com/conclave-secrets/conclave/engine"
)

type listRequest struct {
	Path  string     `path:"path" doc:"directory; empty: the root"`
	After string     `json:"after" doc:"list what follows this name"`
	Limit engine.Int `json:"limit" doc:"list at most so many names; 0 or less: all"`
}

type listAnswer struct {
	Keys []string `json:"keys"`
}

// keys lists a directory; what is empty is not there, as Vault has it.
func (e *Engine) keys(c *engine.Call, r *listRequest) (*listAnswer, error) {
	names, err := e.page(c, r, e.maxKeys())
	return &listAnswer{names}, err
}

// page lists a directory, all of it unless the request says otherwise, at most
// bound names. A listing that is cut short without having been asked for says so.
func (e *Engine) page(c *engine.Call, r *listRequest, bound int) ([]string, error) {
	limit := bound
	if 0 < r.Limit && r.Limit < engine.Int(bound) {
		limit = int(r.Limit)
	}
	names, more, err := e.list(c, r.Path, r.After, limit)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, &engine.NotFoundError{What: "directory"}
	}
	if more && limit == bound {
		c.Warn("There are more than %d names; ask for those after the last one.", bound)
	}
	return names, nil
}

type detailedAnswer struct {
	Keys    []string                   `json:"keys"`
	KeyInfo map[string]*metadataAnswer `json:"key_info"` // of secrets; directories have none
}

func (k v2) listRoutes() []engine.Route {
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "metadata/{path*}",
			Summary: "list the secrets and directories in a directory"},
			func(c *engine.Call, r *listRequest) (*listAnswer, error) { return k.keys(c, r) }),
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "detailed-metadata/{path*}",
			Summary: "list a directory, with the metadata of the secrets directly in it"}, k.listDetailed),
	}
}

// listDetailed looks at every version of every secret that it lists, so its
// pages are those of the typed methods.
func (k v2) listDetailed(c *engine.Call, r *listRequest) (*detailedAnswer, error) {
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
