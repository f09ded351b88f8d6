package history

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An event is the call or the return of an op, as Jepsen and Elle tell it.
type event struct {
	at   time.Duration
	kind string // invoke, ok, fail, info
	op   *Op
}

// WriteEDN writes the ops as a Jepsen history: a map for each call and each return,
// in the order of time. What was refused or not done fails; what is unknown is info.
func WriteEDN(w io.Writer, ops []*Op) error {
	events := make([]event, 0, 2*len(ops))
	for _, o := range ops {
		events = append(events, event{o.Called, "invoke", o}, event{o.Returned, ending(o.Outcome), o})
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	out := bufio.NewWriter(w)
	for i, e := range events {
		if _, err := fmt.Fprintln(out, e.edn(i)); err != nil {
			return fmt.Errorf("writing history as EDN: %w", err)
		}
	}
	return out.Flush()
}

func ending(o Outcome) string {
	switch o {
	case Done:
		return "ok"
	case Unknown:
		return "info"
	}
	return "fail"
}

func (e event) edn(index int) string {
	o := e.op
	var b strings.Builder
	fmt.Fprintf(&b, "{:index %d, :time %d, :process %d, :type :%s, :f :%s, :key %s, :node %d", index, e.at.Nanoseconds(), o.Client, e.kind, o.Kind, quoted(o.Key), o.Node)
	value := "nil"
	switch {
	case o.Kind.Writes() && o.Value != "":
		value = quoted(o.Value)
	case e.kind == "ok" && o.Read != "":
		value = quoted(o.Read)
	}
	b.WriteString(", :value " + value)
	if o.CAS != nil {
		fmt.Fprintf(&b, ", :cas %d", *o.CAS)
	}
	if o.Version != 0 {
		fmt.Fprintf(&b, ", :version %d", o.Version)
	}
	if !o.Linearizable() {
		b.WriteString(", :level :" + o.level())
	}
	if e.kind != "invoke" {
		if o.Outcome == Done {
			fmt.Fprintf(&b, ", :number %d, :log-index %d", o.Number, o.Index)
		}
		if o.Reason != 0 {
			b.WriteString(", :error :" + o.reason())
		}
	}
	return b.String() + "}"
}

// quoted is a string of EDN, whose escapes are JSON's where both are printable ASCII.
func quoted(s string) string { return strconv.QuoteToASCII(s) }
