package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Totals are the sums over all that was published in a folder, failures and what was
// INVALID included.
type Totals struct {
	Real, Simulated Tally
	Faults          []FaultTotal
	Gaps            []GapTotal
}

// A Tally is the sum over one kind of runs.
type Tally struct {
	Runs     int // of the simulation: batches, and seeds that no batch counts
	Pass     int // of these
	Fail     int
	Invalid  int
	Seeds    int
	Time     time.Duration // under faults; virtual in the simulation
	Ops      int
	Searched int
	Faults   int
	Bit      int
	Leaders  int // changes of them, as far as they were counted
}

// A FaultTotal is how often a fault was done and how often it bit, by kind of run.
type FaultTotal struct {
	Name                    string
	Real, RealBit           int
	Simulated, SimulatedBit int
}

// A GapTotal is the writers' gap around all leaders that died on one kind of disks.
type GapTotal struct {
	Disks string
	Gap
}

// Total adds up what was published in dir.
func Total(dir string) (*Totals, error) {
	s, err := read(dir)
	if err != nil {
		return nil, fmt.Errorf("adding up runs: %w", err)
	}
	if len(s.runs)+len(s.batches) == 0 {
		return nil, fmt.Errorf("%s %w", dir, ErrNoRuns)
	}
	return s.totals(), nil
}

func (s *shelf) totals() *Totals {
	t := &Totals{}
	faults := map[string]*FaultTotal{}
	gaps := map[string][]time.Duration{}
	batches := map[string]Verdict{}
	for _, b := range s.batches {
		batches[b.Folder] = b.Verdict
		t.Simulated.add(b.Verdict, b.Seeds, b.Virtual, b.Ops, b.Searched, b.Faults)
		t.Simulated.Leaders += b.LeaderChanges
		countBy(faults, b.Faults, false)
	}
	for _, r := range s.runs {
		switch {
		case r.Kind == "real":
			t.Real.add(r.Verdict, 1, r.Took, r.Ops, r.Searched, r.Summary.Faults)
			t.Real.Leaders += len(r.Gaps)
			countBy(faults, r.Summary.Faults, true)
			gaps[r.Disks] = append(gaps[r.Disks], r.Gaps...)
		// A batch has counted its seeds, unless one was judged anew, and otherwise.
		case batches[r.Batch] == "" || r.Verdict == Fail && batches[r.Batch] != Fail:
			t.Simulated.add(r.Verdict, 1, r.Took, r.Ops, r.Searched, r.Summary.Faults)
			countBy(faults, r.Summary.Faults, false)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		t.Faults = append(t.Faults, *faults[name])
	}
	for _, disks := range slices.Sorted(maps.Keys(gaps)) {
		if g := rank(gaps[disks]); g != nil {
			t.Gaps = append(t.Gaps, GapTotal{cmp.Or(disks, "the machine's own"), *g})
		}
	}
	return t
}

func (t *Tally) add(v Verdict, seeds int, time time.Duration, ops, searched int, faults []FaultCount) {
	done, bit := sum(faults)
	t.Runs++
	switch v {
	case Pass:
		t.Pass++
	case Fail:
		t.Fail++
	case Invalid:
		t.Invalid++
	}
	t.Seeds, t.Time, t.Ops, t.Searched, t.Faults, t.Bit = t.Seeds+seeds, t.Time+time, t.Ops+ops, t.Searched+searched, t.Faults+done, t.Bit+bit
}

func countBy(all map[string]*FaultTotal, faults []FaultCount, real bool) {
	for _, f := range faults {
		c := all[f.Name]
		if c == nil {
			c = &FaultTotal{Name: f.Name}
			all[f.Name] = c
		}
		if real {
			c.Real, c.RealBit = c.Real+f.Done, c.RealBit+f.Bit
		} else {
			c.Simulated, c.SimulatedBit = c.Simulated+f.Done, c.SimulatedBit+f.Bit
		}
	}
}

func sum(faults []FaultCount) (done, bit int) {
	for _, f := range faults {
		done, bit = done+f.Done, bit+f.Bit
	}
	return done, bit
}

// AddFaults adds the counts of another run.
func AddFaults(all, more []FaultCount) []FaultCount {
	byName := map[string]*FaultCount{}
	for _, f := range slices.Concat(all, more) {
		c := byName[f.Name]
		if c == nil {
			c = &FaultCount{Name: f.Name, Proofs: map[string]int{}}
			byName[f.Name] = c
		}
		c.Done, c.Bit = c.Done+f.Done, c.Bit+f.Bit
		for what, n := range f.Proofs {
			c.Proofs[what] += n
		}
	}
	var added []FaultCount
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		added = append(added, *byName[name])
	}
	return added
}

// String is for a terminal.
func (t *Totals) String() string {
	var b strings.Builder
	for _, k := range []struct {
		what string
		*Tally
	}{{"real processes", &t.Real}, {"simulation", &t.Simulated}} {
		fmt.Fprintf(&b, "%s: %d runs (%d pass, %d FAIL, %d INVALID) of %d seeds, %.1f hours, %d requests, %d of them searched by porcupine, %d faults, %d seen to bite, %d leaders lost\n",
			k.what, k.Runs, k.Pass, k.Fail, k.Invalid, k.Seeds, k.Time.Hours(), k.Ops, k.Searched, k.Faults, k.Bit, k.Leaders)
	}
	for _, g := range t.Gaps {
		fmt.Fprintf(&b, "writers' gap, disks: %s: %d dead leaders, median %v, p99 %v, longest %v\n", g.Disks, g.Count, round(g.P50), round(g.P99), round(g.Max))
	}
	return b.String()
}
