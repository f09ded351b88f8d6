package workload

import (
	"fmt"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
)

func (c *Client) pickTokens() *history.Op {
	kind, maker := model.UseToken, model.MakeToken
	if c.rng.IntN(2) == 0 {
		kind, maker = model.UseLimited, model.MakeLimited
	}
	key, among := c.recent(maker)
	if among == 0 || c.rng.Float64() < 0.15 {
		return c.making(maker)
	}
	o := &history.Op{Kind: kind, Key: key}
	if kind == model.UseToken {
		o.Value = []string{model.Parent, model.Child, model.Child}[c.rng.IntN(3)]
		if c.rng.Float64() < 0.12 {
			o.Kind = model.RevokeToken
		}
	}
	return o
}

// making is a request that makes something of a name of its own.
func (c *Client) making(kind history.Kind) *history.Op {
	return &history.Op{Kind: kind, Key: fmt.Sprintf("%s-c%d-%d", kind, c.id, c.serial)}
}

func (c *Client) pickWrapping() *history.Op {
	key, among := c.recent(model.MakeWrapped)
	if among == 0 || c.rng.Float64() < 0.35 {
		return c.making(model.MakeWrapped)
	}
	return &history.Op{Kind: model.Unwrap, Key: key}
}

// writing is the value of a request under a policy that writes.
const writing = "write"

// Of fewer policies than this, clients make another.
const policiesAtATime = 2

func (c *Client) pickPolicies() *history.Op {
	key, among := c.recent(model.MakeGate)
	if among == 0 || among < policiesAtATime && c.rng.Float64() < 0.3 {
		return c.making(model.MakeGate)
	}
	o := &history.Op{Kind: model.UsePolicy, Key: key}
	if c.rng.Float64() < 0.25 {
		o.Kind = model.SetPolicy
		o.Value = []string{model.Allow, model.Deny}[c.rng.IntN(2)]
	} else if c.rng.IntN(2) == 0 {
		o.Value = writing
	}
	return o
}

// judgeGates checks writes against the policy that let them in: at the index of the
// write the policy must allow it, and not only when the request was looked at. A change
// of unknown outcome may have come at any time, so its policy is left alone.
func judgeGates(ops []*history.Op) (found []string) {
	changes := map[string][]*history.Op{}
	doubtful := map[string]bool{}
	for _, o := range ops {
		if o.Kind == model.SetPolicy {
			changes[o.Key] = append(changes[o.Key], o)
			doubtful[o.Key] = doubtful[o.Key] || o.Outcome == history.Unknown
		}
	}
	for _, o := range ops {
		if o.Kind != model.UsePolicy || o.Value != writing || o.Outcome != history.Done || doubtful[o.Key] {
			continue
		}
		last, allowed := (*history.Op)(nil), false
		for _, c := range changes[o.Key] {
			if c.Outcome != history.Done || c.Index >= o.Index {
				continue
			}
			if last == nil || last.Index < c.Index {
				last, allowed = c, false
			}
			// Changes in one entry have one index: which was the last of them is not told.
			allowed = allowed || last.Index == c.Index && c.Value == model.Allow
		}
		if last != nil && !allowed {
			found = append(found, fmt.Sprintf("written after it was denied: %v\n\tafter %v", o, last))
		}
	}
	return found
}
