package sys

import (
	"github.com/conclave-secrets/conclave/engine"
)

// counts is what the routes of this file need of a transaction.
type counts interface {
	CountLeases(revoking bool) (map[string]uint64, error)
	CountTokens() (uint64, error)
}

type leaseCountRequest struct {
	Type     string      `json:"type" doc:"irrevocable: only leases that have ended and wait for the outside world to be put right; empty: all"`
	Children engine.Bool `json:"include_child_namespaces" doc:"accepted: there are none"`
}

type leaseCount struct {
	Total  uint64            `json:"lease_count"`
	Counts map[string]uint64 `json:"counts" doc:"by the mount that the id of the lease lies in"`
}

type tokenCount struct {
	Counters struct {
		ServiceTokens struct {
			Total uint64 `json:"total"`
		} `json:"service_tokens" doc:"tokens that are kept; those of type batch are not"`
	} `json:"counters"`
}

// counterRoutes count what is in the ledger, when they are asked. There are none for
// what the ledger does not know, such as requests: each node counts its own, and
// shows them at sys/metrics.
func counterRoutes() []engine.Route {
	read := func(path, summary string) engine.Route {
		return engine.Route{Verb: engine.VerbRead, Path: path, Summary: summary}
	}
	return []engine.Route{
		engine.NewRoute(read("leases/count", "Count the leases, by mount."), countLeases),
		engine.NewRoute(read("internal/counters/tokens", "Count the tokens."), countTokens),
	}
}

func countLeases(c *engine.Call, r *leaseCountRequest) (*leaseCount, error) {
	if r.Type != "" && r.Type != "irrevocable" {
		return nil, &engine.InvalidError{Why: "the type of leases to count is irrevocable, or none"}
	}
	counts, err := ask[counts](c).CountLeases(r.Type != "")
	if err != nil {
		return nil, err
	}
	out := &leaseCount{Counts: counts}
	for _, n := range counts {
		out.Total += n
	}
	return out, nil
}

func countTokens(c *engine.Call, _ *struct{}) (*tokenCount, error) {
	n, err := ask[counts](c).CountTokens()
	if err != nil {
		return nil, err
	}
	out := &tokenCount{}
	out.Counters.ServiceTokens.Total = n
	return out, nil
}
