package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// Counts says how much happened in runs, so that runs in which too little
// happened do not pass for good ones.
type Counts struct {
	Seeds              int
	Ops                int
	Calm, CalmOK       int // ops that no fault touched; of these, answered
	Unknown            int
	Retried            int // writes sent more than once under one key
	Mismatches         int // failed check-and-sets
	Weak               int // reads at weaker levels
	Leases             int // granted
	Expired            int // ops that found a lease gone
	LeaderChanges      int
	Installs           int // snapshots of a leader installed
	Conflicts          int // batches that lost a race
	Repairs            int // rotten log entries fetched from others
	PartitionsInFlight int // partitions with requests under way at a node that was cut off
	Entries, Compared  int // log entries; indexes at which states were compared
	Faults             map[string]int
	Virtual            time.Duration
}

func (c *Counts) tally(ops []*history.Op) {
	for _, o := range ops {
		c.Ops++
		answered := o.Outcome == history.Done || o.Outcome == history.Refused
		if !o.Faulty {
			c.Calm++
			if answered {
				c.CalmOK++
			}
		}
		if o.Sent > 1 {
			c.Retried++
		}
		if o.Outcome == history.Unknown {
			c.Unknown++
		}
		if o.Kind == history.Put && o.Outcome == history.Refused {
			c.Mismatches++
		}
		if !o.Linearizable() {
			c.Weak++
		}
		if o.Kind == history.Grant && o.Outcome == history.Done {
			c.Leases++
		}
		if (o.Kind == history.Lookup || o.Kind == history.Renew) && o.Outcome == history.Refused {
			c.Expired++
		}
	}
}

// Add adds the counts of other runs.
func (c *Counts) Add(d Counts) {
	c.Seeds += d.Seeds
	c.Ops += d.Ops
	c.Calm += d.Calm
	c.CalmOK += d.CalmOK
	c.Unknown += d.Unknown
	c.Retried += d.Retried
	c.Mismatches += d.Mismatches
	c.Weak += d.Weak
	c.Leases += d.Leases
	c.Expired += d.Expired
	c.LeaderChanges += d.LeaderChanges
	c.Installs += d.Installs
	c.Conflicts += d.Conflicts
	c.Repairs += d.Repairs
	c.PartitionsInFlight += d.PartitionsInFlight
	c.Entries += d.Entries
	c.Compared += d.Compared
	c.Virtual += d.Virtual
	if c.Faults == nil {
		c.Faults = map[string]int{}
	}
	for name, n := range d.Faults {
		c.Faults[name] += n
	}
}

// Vacuous says what did not happen that should have, over all runs together.
func (c *Counts) Vacuous() (missing []string) {
	need := map[string]int{
		"leader changes": c.LeaderChanges, "unknown outcomes": c.Unknown, "snapshot installs": c.Installs,
		"conflicts": c.Conflicts, "partitions with requests in flight": c.PartitionsInFlight,
		"retries under one key": c.Retried, "failed check-and-sets": c.Mismatches,
		"reads at weaker levels": c.Weak, "leases": c.Leases, "leases found gone": c.Expired, "repairs of rotten entries": c.Repairs,
	}
	for _, f := range faultNames() {
		need["fault "+f] = c.Faults[f]
	}
	for _, name := range slices.Sorted(maps.Keys(need)) {
		if need[name] == 0 {
			missing = append(missing, "no "+name)
		}
	}
	if 2*c.CalmOK <= c.Calm {
		missing = append(missing, fmt.Sprintf("only %d of %d requests outside faults were answered", c.CalmOK, c.Calm))
	}
	return missing
}

// String is a short report.
func (c *Counts) String() string {
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(c.Faults)) {
		faults = append(faults, fmt.Sprintf("%s %d", name, c.Faults[name]))
	}
	return fmt.Sprintf("%d seeds, %v of virtual time: %d requests (%d of %d outside faults answered, %d unknown, %d sent again, %d failed check-and-sets, %d weaker reads), "+
		"%d leases (found gone %d times), %d entries, states compared at %d indexes, %d leader changes, %d snapshots installed, %d conflicts, %d rotten entries repaired, %d partitions with requests in flight; faults: %s",
		c.Seeds, c.Virtual.Round(time.Second), c.Ops, c.CalmOK, c.Calm, c.Unknown, c.Retried, c.Mismatches, c.Weak,
		c.Leases, c.Expired, c.Entries, c.Compared, c.LeaderChanges, c.Installs, c.Conflicts, c.Repairs, c.PartitionsInFlight, strings.Join(faults, ", "))
}
