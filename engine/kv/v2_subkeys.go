package kv

import (
	"github.com/conclave-secrets/conclave/engine"
)

type subkeysRequest struct {
	Path    string     `path:"path" doc:"path of the secret"`
	Version engine.Int `json:"version" doc:"number of the version; 0: the current one"`
	Depth   engine.Int `json:"depth" doc:"how deep to look; 0: all the way"`
}

type subkeysAnswer struct {
	Subkeys  map[string]any `json:"subkeys"` // null: deleted or destroyed
	Metadata versionAnswer  `json:"metadata"`
}

func (k v2) subkeyRoutes() []engine.Route {
	return []engine.Route{engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "subkeys/{path...}",
		Summary:     "show how a secret is built, without its values",
		Description: "Each name of a field, and of the members of fields that are objects, with null in the place of the value."}, k.readSubkeys)}
}

func (k v2) readSubkeys(c *engine.Call, r *subkeysRequest) (*subkeysAnswer, error) {
	depth, err := count("depth", r.Depth)
	if err != nil {
		return nil, err
	}
	if depth == 0 || depth > engine.MaxDepth {
		depth = engine.MaxDepth + 1 // a field may be MaxDepth deep itself
	}
	v, about, err := k.look(c, r.Path, r.Version)
	if err != nil || v.Deleted || v.Destroyed {
		return &subkeysAnswer{Metadata: about}, err
	}
	object, err := objectOf(v)
	if err != nil {
		return nil, err
	}
	out := make(map[string]any, len(object))
	for name, raw := range object {
		var value any
		if raw[0] == '{' && depth > 1 {
			if err := decodeExactly(raw, &value); err != nil {
				return nil, err
			}
		}
		out[name] = skeleton(value, depth-1)
	}
	return &subkeysAnswer{Subkeys: out, Metadata: about}, nil
}

// skeleton is an object with null in the place of what is none, depth levels of
// it; nil for anything else, and for an object without members.
func skeleton(value any, depth uint64) any {
	object, ok := value.(map[string]any)
	if !ok || len(object) == 0 || depth == 0 {
		return nil
	}
	out := make(map[string]any, len(object))
	for name, inner := range object {
		out[name] = skeleton(inner, depth-1)
	}
	return out
}
