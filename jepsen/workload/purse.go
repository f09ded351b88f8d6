package workload

import (
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
)

// credential is something that lets in, by its name in the history.
type credential struct {
	key    string
	tokens map[string]redact.Bytes // by member; "" where there is one only
	body   string                  // of a wrapped answer
	picked int                     // for so many requests; guarded by the world's mu
}

// one is a credential of one token.
func one(key string, token redact.Bytes) *credential {
	return &credential{key: key, tokens: map[string]redact.Bytes{"": token}}
}

// A purse holds what the clients have in common to get in with.
type purse struct {
	byKey map[string]*credential
	made  map[history.Kind][]*credential // in order, by the kind that made them
}

const (
	usedAtATime = 3  // credentials of a kind
	usedAtEnd   = 20 // of the credentials of a kind, once more when all is over
)

func newPurse() purse {
	return purse{byKey: map[string]*credential{}, made: map[history.Kind][]*credential{}}
}

func (w *World) keep(kind history.Kind, made *credential) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.purse.byKey[made.key] = made
	w.purse.made[kind] = append(w.purse.made[kind], made)
}

// last returns the last so many credentials of a kind. The caller holds mu.
func (p *purse) last(kind history.Kind, most int) []*credential {
	all := p.made[kind]
	return all[max(0, len(all)-most):]
}

// uses is how many requests a credential has, made by a kind. What is used up has few
// more than it is good for: each whose end nobody saw doubles the search for an order.
func uses(kind history.Kind) int {
	if kind == model.MakeLimited || kind == model.MakeWrapped {
		return 4 * model.LimitedUses
	}
	return requestsEach
}

// recent returns one of the last few credentials of a kind that has not had all of
// its requests, and how many of those there are.
func (c *Client) recent(kind history.Kind) (key string, among int) {
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	var left []*credential
	for _, made := range c.world.purse.last(kind, usedAtATime) {
		if made.picked < uses(kind) {
			left = append(left, made)
		}
	}
	if len(left) == 0 {
		return "", 0
	}
	chosen := left[c.rng.IntN(len(left))]
	chosen.picked++
	return chosen.key, len(left)
}

// credential is nil if nothing was made under this key.
func (w *World) credential(key string) *credential {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.purse.byKey[key]
}

// lastUses are requests with the newest tokens, and under the newest policies.
func (w *World) lastUses() (ops []*history.Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, family := range w.purse.last(model.MakeToken, usedAtEnd) {
		for _, member := range []string{model.Parent, model.Child} {
			ops = append(ops, &history.Op{Kind: model.UseToken, Key: family.key, Value: member})
		}
	}
	for _, gate := range w.purse.last(model.MakeGate, usedAtEnd) {
		ops = append(ops, &history.Op{Kind: model.UsePolicy, Key: gate.key})
	}
	return ops
}
