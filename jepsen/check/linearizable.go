// Package check judges histories. Linearizable hands them to porcupine, key by
// key, with the models of jepsen/model; the other checks use what porcupine
// cannot see, the index and the log time that each answer names, and cost next
// to nothing. Each returns its findings as sentences; none is good. Nothing here
// sends a request. Start reading at All.
package check

import (
	"fmt"
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
func Linearizable(ops []*history.Op) (found []string) {
	byKey := map[string][]porcupine.Operation{}
	leases := map[string]bool{}
	for _, o := range ops {
		if o.Outcome == history.NotDone || !o.Linearizable() || o.Outcome == history.Unknown && !o.Kind.Writes() || o.Key == "" {
			continue
		}
		returned := int64(o.Returned)
		if o.Outcome == history.Unknown {
			returned = math.MaxInt64
		}
		leases[o.Key] = o.Kind == history.Grant || o.Kind == history.Renew || o.Kind == history.Revoke || o.Kind == history.Lookup
		byKey[o.Key] = append(byKey[o.Key], porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.Called), Return: returned})
	}
	for key, history := range byKey {
		m := model.Secrets()
		if leases[key] {
			m = model.Leases()
		}
		switch porcupine.CheckOperationsTimeout(m, history, patience) {
		case porcupine.Illegal:
			found = append(found, fmt.Sprintf("%s is not linearizable:\n%s", key, listing(history)))
		case porcupine.Unknown:
			found = append(found, fmt.Sprintf("%s: the search among %d ops did not end in %v", key, len(history), patience))
		}
	}
	slices.Sort(found)
	return found
}

func listing(ops []porcupine.Operation) string {
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, o := range ops {
		fmt.Fprintf(&b, "\t%v\n", o.Input)
	}
	return b.String()
}
