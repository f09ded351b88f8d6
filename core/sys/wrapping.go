package sys

import (
	"encoding/json"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/internal/redact"
)

// wrappings is what the routes of this file need of a transaction.
type wrappings interface {
	FindWrapped(text redact.Bytes) (*core.Wrapped, error)
	Unwrap(w *core.Wrapped) (*core.Reply, error)
	Rewrap(w *core.Wrapped) (*core.WrapInfo, error)
	CallerToken() redact.Bytes
}

type wrapRequest struct {
	Body engine.Object `body:"object" doc:"what to wrap"`
}

type unwrapRequest struct {
	Token string `json:"token" doc:"the wrapping token; without it, the caller's own"`
}

// errNoWrapping is the answer to each wrapping token that opens nothing, whatever
// became of it.
var errNoWrapping = &engine.InvalidError{Why: "wrapping token is not valid or does not exist"}

func wrappingRoutes() []engine.Route {
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "wrapping/wrap", Parallel: true, Summary: "Wrap what is sent."},
			func(c *engine.Call, r *wrapRequest) (*json.RawMessage, error) {
				if !c.Wraps {
					return nil, &engine.InvalidError{Why: "endpoint requires response wrapping to be used"}
				}
				raw, err := json.Marshal(r.Body)
				return (*json.RawMessage)(&raw), err
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "wrapping/unwrap", Writes: true, Open: true, Parallel: true,
			Summary: "Give out what is wrapped, once."}, unwrap),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "wrapping/lookup", Open: true, Summary: "Describe a wrapped answer."}, lookupWrapped),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "wrapping/lookup", Open: true, Summary: "Describe a wrapped answer."}, lookupWrapped),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "wrapping/rewrap", Writes: true, Open: true, Parallel: true,
			Summary: "Wrap what is wrapped under a new token."}, rewrap),
	}
}

// find returns what the token of a request opens: the one in its body, or its own.
func (r *unwrapRequest) find(c *engine.Call) (*core.Wrapped, error) {
	text := redact.New([]byte(r.Token))
	if r.Token == "" {
		text = ask[wrappings](c).CallerToken()
	}
	w, err := ask[wrappings](c).FindWrapped(text)
	if err == nil && w == nil {
		err = errNoWrapping
	}
	return w, err
}

func unwrap(c *engine.Call, r *unwrapRequest) (*core.Reply, error) {
	w, err := r.find(c)
	if err != nil {
		return nil, err
	}
	return ask[wrappings](c).Unwrap(w)
}

func rewrap(c *engine.Call, r *unwrapRequest) (*core.Reply, error) {
	w, err := r.find(c)
	if err != nil {
		return nil, err
	}
	info, err := ask[wrappings](c).Rewrap(w)
	return &core.Reply{Wrap: info}, err
}

type wrappedData struct {
	CreationPath string `json:"creation_path"`
	CreationTime string `json:"creation_time"`
	CreationTTL  int64  `json:"creation_ttl"`
}

func lookupWrapped(c *engine.Call, r *unwrapRequest) (*wrappedData, error) {
	w, err := r.find(c)
	if err != nil {
		return nil, err
	}
	return &wrappedData{w.CreationPath, w.CreatedAt.AsTime().Format(time.RFC3339Nano), seconds(w.Ttl)}, nil
}
