// Package check judges histories. Linearizable hands them to porcupine, key by
// key, with the models of jepsen/model; the other checks use what porcupine
// cannot see, the index and the log time that each answer names, and cost next
// to nothing. Each returns its findings as sentences; none is good. Nothing here
// sends a request. Start reading at All.
package check

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
)

// patience bounds the search for one key. A search that does not end is a
// finding: it must never pass for a good answer.
const patience = 20 * time.Second

// Linearizable checks that the ops on each key could have happened one after the
// other, each between its call and its return. Ops whose consistency level
// claims less take no part, nor do those that were certainly not carried out.
func Linearizable(ops []*history.Op) []string { return Search(ops).Found }

// A Verdict is what porcupine had to say.
type Verdict struct {
	Keys, Ops int      // that were searched to the end
	Undecided int      // keys whose search did not end: nothing is known of them
	Bad       []string // keys that are not linearizable
	Found     []string
}

// Search is Linearizable with numbers.
func Search(ops []*history.Op) (v Verdict) {
	for key, all := range byKey(ops) {
		v.Keys++
		v.Ops += len(all)
		switch porcupine.CheckOperationsTimeout(modelOf(all), all, patience) {
		case porcupine.Illegal:
			v.Bad = append(v.Bad, key)
			v.Found = append(v.Found, fmt.Sprintf("%s is not linearizable:\n%s", key, listing(all)))
		case porcupine.Unknown:
			v.Keys, v.Ops, v.Undecided = v.Keys-1, v.Ops-len(all), v.Undecided+1
			v.Found = append(v.Found, fmt.Sprintf("%s: the search among %d ops did not end in %v", key, len(all), patience))
		}
	}
	slices.Sort(v.Found)
	slices.Sort(v.Bad)
	return v
}

// An Account is how porcupine came to its verdict on one key.
type Account struct {
	// Stuck is the first request to return of those that have no place in the longest
	// order that was found; nil: all have one.
	Stuck *history.Op
	model porcupine.Model
	info  porcupine.LinearizationInfo
}

// Explain searches one key again, for an account. ok is false when no request of the
// key takes part in the search.
func Explain(ops []*history.Op, key string) (a *Account, ok bool) {
	all := byKey(ops)[key]
	if len(all) == 0 {
		return nil, false
	}
	a = &Account{model: modelOf(all)}
	a.model.DescribeOperation = func(input, _ any) string { return brief(input.(*history.Op)) }
	_, a.info = porcupine.CheckOperationsVerbose(a.model, all, patience)
	var longest []porcupine.Operation
	for _, orders := range a.info.PartialLinearizationsOperations() {
		for _, order := range orders {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	placed := map[any]bool{}
	for _, o := range longest {
		placed[o.Input] = true
	}
	for _, o := range all {
		op := o.Input.(*history.Op)
		if !placed[op] && op.Outcome != history.Unknown && (a.Stuck == nil || op.Returned < a.Stuck.Returned) {
			a.Stuck = op
		}
	}
	return a, true
}

// Draw makes a picture of the search, a page of HTML that needs nothing else.
func (a *Account) Draw(w io.Writer) error { return porcupine.Visualize(a.model, a.info, w) }

// brief leaves out of an op what a picture of its key shows anyway.
func brief(o *history.Op) string {
	_, rest, _ := strings.Cut(o.String(), string(o.Kind)+" "+o.Key)
	return string(o.Kind) + rest
}

// byKey are the ops that take part, as porcupine wants them.
func byKey(ops []*history.Op) map[string][]porcupine.Operation {
	all := map[string][]porcupine.Operation{}
	for _, o := range ops {
		if o.Outcome == history.NotDone || !o.Linearizable() || o.Outcome == history.Unknown && !changes(o.Kind) || o.Key == "" {
			continue
		}
		returned := int64(o.Returned)
		if o.Outcome == history.Unknown {
			returned = math.MaxInt64
		}
		all[o.Key] = append(all[o.Key], porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.Called), Return: returned})
	}
	return all
}

// changes tells whether an op that nobody saw the end of may matter to others.
func changes(k history.Kind) bool {
	if model.IsAccess(k) {
		return model.ChangesAccess(k)
	}
	return k.Writes()
}

func modelOf(ops []porcupine.Operation) porcupine.Model {
	kind := ops[0].Input.(*history.Op).Kind
	switch kind {
	case history.Grant, history.Renew, history.Revoke, history.Lookup:
		return model.Leases()
	case history.Transfer, history.Balances:
		return model.Banks()
	}
	if model.IsAccess(kind) {
		return model.Access()
	}
	return model.Secrets()
}

func listing(ops []porcupine.Operation) string {
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&b, "\t%v\n", o.Input)
	}
	return b.String()
}
