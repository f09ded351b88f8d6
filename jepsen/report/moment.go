package report

import (
	"cmp"
	"html/template"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// A moment is one thing that is wrong: what, and all that a reader needs to see how it
// came about.
type moment struct {
	What, Evidence string
	Known          bool // whether the finding says when it was
	At             time.Duration
	Key            string // of the request that it names first; "": it names none
	Stuck          string // the request that porcupine finds no place for
	Picture        string // porcupine's, of the key
	Faults         []history.Fault
	Lanes          template.HTML
	Ops            []requestLine // of all keys, around it
}

type requestLine struct {
	Text  string
	Named bool
}

const (
	around   = 3 * time.Second // what is told of a moment, before and after
	lingers  = time.Second     // what a fault did may still be there so long after it
	fewest   = 10              // requests that are told of it on either side, however slow the run
	mostOps  = 400             // … on either side, however fast
	mostKeys = 10              // for which porcupine draws its picture
	mostTold = 20              // findings whose moments are told
)

// A teller knows the requests of a run by what findings call them.
type teller struct {
	run    *history.Run
	ops    []*history.Op // in the order of their return
	byName map[string]*history.Op
	keys   map[string]account
}

// account is what porcupine has to say of a key.
type account struct {
	stuck   *history.Op
	picture string
}

func newTeller(run *history.Run) *teller {
	t := &teller{run: run, byName: map[string]*history.Op{}, keys: map[string]account{}}
	t.ops = slices.SortedStableFunc(slices.Values(run.Ops), func(a, b *history.Op) int { return cmp.Compare(a.Returned, b.Returned) })
	for _, o := range run.Ops {
		t.byName[o.String()] = o
	}
	return t
}

var (
	opName    = regexp.MustCompile(`\S+\.\.\S+ client -?\d+ n\d+\.\d+ .*? index \d+`)
	indexName = regexp.MustCompile(`\bindex (\d+)`)
)

// names returns the requests that a finding names, in its order.
func (t *teller) names(finding string) (named []*history.Op) {
	for _, name := range opName.FindAllString(finding, -1) {
		if o := t.byName[name]; o != nil {
			named = append(named, o)
		}
	}
	return named
}

// answerAt is the first answer at or above the index that a finding names; nil: it names
// none.
func (t *teller) answerAt(finding string) *history.Op {
	m := indexName.FindStringSubmatch(finding)
	if m == nil {
		return nil
	}
	index, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil {
		return nil // no log is that long
	}
	i := slices.IndexFunc(t.ops, func(o *history.Op) bool { return o.Outcome == history.Done && o.Index >= index })
	if i < 0 {
		return nil
	}
	return t.ops[i]
}

// tell finds the moment of a finding. A key that is not linearizable lists all its
// requests: there it is the one that porcupine finds no place for.
func (t *teller) tell(found string) moment {
	what, evidence, _ := strings.Cut(found, "\n")
	m := moment{What: strings.TrimSuffix(what, ":"), Evidence: evidence}
	named := t.names(found)
	shown := t.ops
	if len(named) > 0 {
		m.Key = named[0].Key
		shown = slices.DeleteFunc(slices.Clone(t.ops), func(o *history.Op) bool { return o.Key != m.Key })
		a := t.keys[m.Key]
		m.Picture = a.picture
		if a.stuck != nil && slices.Contains(named, a.stuck) {
			named, m.Stuck = []*history.Op{a.stuck}, a.stuck.String()
		}
	} else if o := t.answerAt(found); o != nil {
		named = []*history.Op{o}
	} else {
		return m
	}
	m.Known, m.At = true, named[0].Returned
	for _, f := range t.run.Faults {
		if f.Began <= m.At && m.At <= f.Ended+lingers {
			m.Faults = append(m.Faults, f)
		}
	}
	for _, o := range within(t.ops, m.At) {
		m.Ops = append(m.Ops, requestLine{o.String(), slices.Contains(named, o)})
	}
	m.Lanes = lanes(within(shown, m.At), t.run.Faults, named, m.At)
	return m
}

// within are the ops around an instant.
func within(ops []*history.Op, at time.Duration) []*history.Op {
	place := func(at time.Duration) int {
		i, _ := slices.BinarySearchFunc(ops, at, func(o *history.Op, at time.Duration) int { return cmp.Compare(o.Returned, at) })
		return i
	}
	middle := place(at)
	first := min(place(at-around), middle-fewest)
	last := max(place(at+around), middle+fewest)
	return ops[max(0, first, middle-mostOps):min(len(ops), last, middle+mostOps)]
}

// keysOf are the keys of the requests that findings name, those that are not
// linearizable first.
func (t *teller) keysOf(s *Summary) []string {
	keys := slices.Clone(s.bad)
	for _, f := range s.Found[:min(len(s.Found), mostTold)] {
		// The other requests that it names have the same key, or say what came before.
		if named := t.names(f); len(named) > 0 && named[0].Key != "" && !slices.Contains(keys, named[0].Key) {
			keys = append(keys, named[0].Key)
		}
	}
	return keys[:min(len(keys), mostKeys)]
}
