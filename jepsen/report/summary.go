package report

import (
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/check"
	"github.com/conclave-secrets/conclave/jepsen/history"
)

// A Verdict is what a run has shown.
type Verdict string

const (
	Pass    Verdict = "pass"
	Fail    Verdict = "FAIL"
	Invalid Verdict = "INVALID" // too little happened for it to prove anything
)

// A Summary is what the index of all runs tells of one.
type Summary struct {
	history.Header
	Verdict   Verdict        `json:"verdict"`
	Ops       int            `json:"ops"`
	Outcomes  map[string]int `json:"outcomes"`
	Searched  int            `json:"searched"`  // ops that porcupine searched to the end
	Keys      int            `json:"keys"`      // on so many keys
	Undecided int            `json:"undecided"` // keys whose search did not end
	Faults    []FaultCount   `json:"faults"`
	Found     []string       `json:"found"` // what is wrong; while it ran, and in its history
	Pictures  []string       `json:"pictures,omitempty"`
	Logs      []string       `json:"logs,omitempty"`
	Gap       *Gap           `json:"gap,omitempty"`
	Took      time.Duration  `json:"took"` // from the first call to the last return

	bad []string // keys that are not linearizable
}

// A FaultCount is how often a fault was done, how often it was seen to bite, and what
// was seen.
type FaultCount struct {
	Name   string         `json:"name"`
	Done   int            `json:"done"`
	Bit    int            `json:"bit"`
	Proofs map[string]int `json:"proofs,omitempty"`
}

// A Gap is how long writers waited when leaders died.
type Gap struct {
	Count int           `json:"count"`
	P50   time.Duration `json:"p50"`
	P99   time.Duration `json:"p99"`
	Max   time.Duration `json:"max"`
}

// Summarise judges a run.
func Summarise(run *history.Run) *Summary {
	s := &Summary{Header: run.Header, Ops: len(run.Ops), Outcomes: map[string]int{}, Faults: countFaults(run.Faults)}
	for _, o := range run.Ops {
		s.Outcomes[o.Outcome.String()]++
		s.Took = max(s.Took, o.Returned)
	}
	at := run.TimeAt
	if len(run.Times) == 0 {
		at = nil
	}
	search := check.Search(run.Ops)
	s.Searched, s.Keys, s.Undecided, s.bad = search.Ops, search.Keys, search.Undecided, search.Bad
	s.Found = slices.Concat(run.Violated, check.Witness(run.Ops, at), search.Found)
	s.Gap = rank(run.Gaps)
	switch {
	case len(s.Found) > 0:
		s.Verdict = Fail
	case len(s.Invalid) > 0:
		s.Verdict = Invalid
	default:
		s.Verdict = Pass
	}
	return s
}

func countFaults(faults []history.Fault) []FaultCount {
	var each []FaultCount
	for _, f := range faults {
		c := FaultCount{Name: f.Name, Done: 1, Proofs: map[string]int{}}
		if f.Bit() {
			c.Bit = 1
		}
		for _, p := range f.Proofs {
			c.Proofs[p.What] += int(p.Count)
		}
		each = append(each, c)
	}
	return AddFaults(nil, each)
}

func rank(gaps []time.Duration) *Gap {
	if len(gaps) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(gaps))
	at := func(q float64) time.Duration { return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))] }
	return &Gap{len(sorted), at(.5), at(.99), sorted[len(sorted)-1]}
}
