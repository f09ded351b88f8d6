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

// Picture draws the search of one key as a page of HTML that needs nothing else.
func Picture(w io.Writer, ops []*history.Op, key string) error {
	all := byKey(ops)[key]
	if len(all) == 0 {
		return fmt.Errorf("drawing %s: no op takes part in the search", key)
	}
	m := modelOf(all)
	_, info := porcupine.CheckOperationsVerbose(m, all, patience)
	return porcupine.Visualize(m, info, w)
}

// byKey are the ops that take part, as porcupine wants them.
func byKey(ops []*history.Op) map[string][]porcupine.Operation {
	all := map[string][]porcupine.Operation{}
	for _, o := range ops {
		if o.Outcome == history.NotDone || !o.Linearizable() || o.Outcome == history.Unknown && !o.Kind.Writes() || o.Key == "" {
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

func modelOf(ops []porcupine.Operation) porcupine.Model {
	kind := ops[0].Input.(*history.Op).Kind
	switch kind {
	case history.Grant, history.Renew, history.Revoke, history.Lookup:
		return model.Leases()
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
