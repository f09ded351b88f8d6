package sys

import (
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/policy"
)

// explainer is what the route of this file needs of a transaction.
type explainer interface {
	OwnToken() (*core.Token, error)
	TokenByText(text redact.Bytes) (*core.Token, error)
	TokenByAccessor(accessor string) (*core.Token, error)
	Explain(token *core.Token, names []string, req policy.Request) (policy.Explanation, error)
}

type explainRequest struct {
	Token      string          `json:"token" doc:"whose rights to look at; without token, accessor and policies, the caller's own"`
	Accessor   string          `json:"accessor" doc:"the same, by the token's accessor"`
	Policies   engine.Strings  `json:"policies" doc:"instead: what a token with these policies could do"`
	Capability string          `json:"capability" doc:"create, read, update, patch, delete, list"`
	Path       string          `json:"path" doc:"what would be asked"`
	Parameters engine.Object   `json:"parameters" doc:"what the request would send"`
	WrapTTL    engine.Duration `json:"wrap_ttl" doc:"for how long its answer would be wrapped; 0: not at all"`
	Reason     string          `json:"reason" doc:"the reason that it would give"`
}

func policyExplainRoutes() []engine.Route {
	return []engine.Route{engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "policies/explain",
		Summary:     "Tell which rule of which policy decides about a request.",
		Description: "The answer shows the rules that match, so this is for those who may read the policies."}, explain)}
}

func explain(c *engine.Call, r *explainRequest) (*policy.Explanation, error) {
	capability, ok := policy.ParseCapability(r.Capability)
	switch {
	case !ok:
		return nil, &engine.InvalidError{Why: "the field \"capability\" is none that a request can need"}
	case strings.Trim(r.Path, "/") == "":
		return nil, &engine.InvalidError{Why: "the field \"path\" is missing"}
	}
	token, err := r.subject(c)
	if err != nil {
		return nil, err
	}
	names, root, err := namedPolicies(r.Policies)
	if err != nil {
		return nil, err
	}
	if root {
		names = append(names, "root")
	}
	parameters := map[string]any{}
	for name, raw := range r.Parameters {
		var value any
		if err := json.Unmarshal(raw, &value); err != nil {
			return nil, &engine.InvalidError{Why: "the field \"parameters\" cannot be read"}
		}
		parameters[name] = value
	}
	e, err := ask[explainer](c).Explain(token, names, policy.Request{
		Path: strings.TrimLeft(r.Path, "/"), Capability: capability, Parameters: maps.All(parameters),
		Wrapped: r.WrapTTL > 0, WrapTTL: time.Duration(r.WrapTTL), Reason: r.Reason,
	})
	return &e, err
}

// subject is the token that is asked about; nil where it is policies.
func (r *explainRequest) subject(c *engine.Call) (token *core.Token, err error) {
	sent := 0
	for _, there := range []bool{r.Token != "", r.Accessor != "", len(r.Policies) > 0} {
		if there {
			sent++
		}
	}
	if sent > 1 {
		return nil, &engine.InvalidError{Why: "token, accessor and policies exclude each other"}
	}
	t := ask[explainer](c)
	switch {
	case len(r.Policies) > 0:
		return nil, nil
	case r.Token != "":
		token, err = t.TokenByText(redact.New([]byte(r.Token)))
	case r.Accessor != "":
		token, err = t.TokenByAccessor(r.Accessor)
	default:
		token, err = t.OwnToken()
	}
	if err == nil && token == nil {
		err = &engine.InvalidError{Why: "invalid token"}
	}
	return token, err
}
