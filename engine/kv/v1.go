package kv

import (
	"encoding/json"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// v1 answers Vault's routes of version 1: one value at each path.
//
// The value is the current version of a secret, the same that version 2 would
// show. An earlier one is destroyed with the next: version 1 promises nobody
// that what was overwritten can be read. The limit of versions is left alone, so
// that a mount that becomes one of version 2 begins to keep its history.
type v1 struct{ *Engine }

type v1Write struct {
	Path string        `path:"path" doc:"path of the secret"`
	Data engine.Object `body:"object" doc:"the secret's fields"`
}

func (k v1) routes() []engine.Route {
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "{path...}", Summary: "read a secret"}, k.read),
		engine.WithExists(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "{path...}", Writes: true,
			Summary:     "write a secret, in the place of what is there",
			Description: "A field named ttl, or lease, tells readers for how long they may use the secret before they ask again."}, k.write),
			func(c *engine.Call, r *v1Write) (bool, error) { return k.exists(c, r.Path) }),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: "{path...}", Writes: true, Summary: "remove a secret"},
			func(c *engine.Call, r *secretPath) (*struct{}, error) {
				p, err := k.path(r.Path)
				if err != nil {
					return nil, err
				}
				return nil, skipUnfit.or(purge(c, p))
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "{path*}", Summary: "list the secrets and directories in a directory"},
			func(c *engine.Call, r *engine.ListRequest) (*engine.ListAnswer, error) {
				return k.keys(c, r)
			}),
	}
}

func (k v1) read(c *engine.Call, r *secretPath) (*engine.Object, error) {
	p, err := k.path(r.Path)
	if err != nil {
		return nil, err
	}
	_, v, err := version(c, p, 0)
	if err != nil {
		return nil, err
	}
	if v.Deleted || v.Destroyed {
		return nil, &engine.NotFoundError{What: "secret"}
	}
	object, err := objectOf(v)
	if err != nil {
		return nil, err
	}
	c.UseFor(timeToUse(object, c.Mount.DefaultTTL))
	return &object, nil
}

// timeToUse is what a secret says of itself, or else the mount.
func timeToUse(o engine.Object, otherwise time.Duration) time.Duration {
	for _, name := range []string{"ttl", "lease"} {
		raw, there := o[name]
		if !there {
			continue
		}
		var d engine.Duration
		if err := json.Unmarshal(raw, &d); err != nil {
			return otherwise // it is the user's own field, and may mean something else
		}
		return time.Duration(d)
	}
	return otherwise
}

func (k v1) write(c *engine.Call, r *v1Write) (*struct{}, error) {
	if len(r.Data) == 0 {
		return nil, &engine.InvalidError{Why: "missing data fields"}
	}
	data, err := fieldsOf(r.Data)
	if err != nil {
		return nil, err
	}
	value, err := k.encode(data)
	if err != nil {
		return nil, err
	}
	// Before the new version: that one may be what the limit has no room for.
	if err := k.change(c, r.Path, engine.Destroy, nil, skipUnfit); err != nil {
		return nil, err
	}
	p, err := k.path(r.Path)
	if err != nil {
		return nil, err
	}
	_, err = c.AppendVersion(p, value, 0)
	return nil, err
}
