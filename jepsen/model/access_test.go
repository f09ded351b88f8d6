package model_test

import (
	"math"
	"testing"

	"github.com/anishathalye/porcupine"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
)

// The model of access accepts what was promised and nothing else.
func TestAccess(t *testing.T) {
	op := func(k history.Kind, value string, outcome history.Outcome) history.Op {
		return history.Op{Kind: k, Value: value, Outcome: outcome}
	}
	use, revoke := model.UseToken, model.RevokeToken
	limited, wrapped := op(model.UseLimited, "", done), op(model.Unwrap, "", done)
	noMore, empty := op(model.UseLimited, "", refused), op(model.Unwrap, "", refused)
	allow, deny := op(model.SetPolicy, model.Allow, done), op(model.SetPolicy, model.Deny, done)
	let, shut := op(model.UsePolicy, "", done), op(model.UsePolicy, "", refused)
	cases := []struct {
		name string
		ops  []history.Op
		want bool
	}{
		{"a family lives", []history.Op{op(use, model.Parent, done), op(use, model.Child, done)}, true},
		{"refused for nothing", []history.Op{op(use, model.Parent, refused)}, false},
		{"the tree ends", []history.Op{op(revoke, model.Parent, done), op(use, model.Child, refused), op(use, model.Parent, refused)}, true},
		{"a child outlives its parent", []history.Op{op(revoke, model.Parent, done), op(use, model.Child, done)}, false},
		{"a parent outlives its child", []history.Op{op(revoke, model.Child, done), op(use, model.Parent, done), op(use, model.Child, refused)}, true},
		{"unknown revocation", []history.Op{op(revoke, model.Child, unknown), op(use, model.Child, done), op(use, model.Child, refused)}, true},
		{"back after an unknown revocation", []history.Op{op(revoke, model.Child, unknown), op(use, model.Child, refused), op(use, model.Child, done)}, false},
		{"all uses", []history.Op{limited, limited, limited, noMore}, true},
		{"one use too many", []history.Op{limited, limited, limited, limited}, false},
		{"one use too few", []history.Op{limited, limited, noMore}, false},
		{"a use that nobody knows of", []history.Op{limited, op(model.UseLimited, "", unknown), limited, noMore}, true},
		{"opened once", []history.Op{wrapped, empty}, true},
		{"opened twice", []history.Op{wrapped, wrapped}, false},
		{"never opened", []history.Op{empty}, false},
		{"policy", []history.Op{let, deny, shut, allow, let}, true},
		{"allowed after it was denied", []history.Op{deny, let}, false},
		{"denied after it was allowed", []history.Op{deny, allow, shut}, false},
	}
	for _, c := range cases {
		var ops []porcupine.Operation
		for i := range c.ops {
			o := &c.ops[i]
			returned := int64(2*i + 1)
			if o.Outcome == unknown {
				returned = math.MaxInt64
			}
			ops = append(ops, porcupine.Operation{ClientId: i, Input: o, Call: int64(2 * i), Return: returned})
		}
		if got := porcupine.CheckOperations(model.Access(), ops); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
