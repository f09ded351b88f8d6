package workload

import (
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/jepsen/history"
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
	byKey  map[string]*credential
	newest map[history.Kind][]*credential // the last few, by the kind that made them
}

// newestKept is how many credentials of a kind are used at a time.
const newestKept = 3

func newPurse() purse {
	return purse{byKey: map[string]*credential{}, newest: map[history.Kind][]*credential{}}
}

func (w *World) keep(kind history.Kind, made *credential) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.purse.byKey[made.key] = made
	all := append(w.purse.newest[kind], made)
	w.purse.newest[kind] = all[max(0, len(all)-newestKept):]
}

// recent returns one of the last few credentials of a kind that has not had all of
// its requests, and how many of those there are.
func (c *Client) recent(kind history.Kind) (key string, among int) {
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	var left []*credential
	for _, one := range c.world.purse.newest[kind] {
		if one.picked < requestsEach {
			left = append(left, one)
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
