package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
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
	Records            int // of the audit logs
	Access             int // requests around tokens, policies and wrapping
	Turned             int // of these, turned away
	Faults             map[string]int
	Bit                map[string]int // what faults did that may also miss
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
		if model.IsAccess(o.Kind) {
			c.Access++
			if o.Outcome == history.Refused {
				c.Turned++
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
	c.Records += d.Records
	c.Access += d.Access
	c.Turned += d.Turned
	if c.Faults == nil {
		c.Faults = map[string]int{}
	}
	if c.Bit == nil {
		c.Bit = map[string]int{}
	}
	for what, n := range d.Bit {
		c.Bit[what] += n
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
		"requests turned away": c.Turned, "audit records": c.Records,
	}
	for _, what := range canMiss {
		need[what] = c.Bit[what]
	}
	for _, f := range FaultNames() {
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
	for _, what := range slices.Sorted(maps.Keys(c.Bit)) {
		faults = append(faults, fmt.Sprintf("%s %d", what, c.Bit[what]))
	}
	return fmt.Sprintf("%d seeds, %v of virtual time: %d requests (%d of %d outside faults answered, %d unknown, %d sent again, %d failed check-and-sets, %d weaker reads), "+
		"%d around access (%d turned away), %d audit records, %d leases (found gone %d times), %d entries, states compared at %d indexes, %d leader changes, %d snapshots installed, %d conflicts, %d rotten entries repaired, %d partitions with requests in flight; faults: %s",
		c.Seeds, c.Virtual.Round(time.Second), c.Ops, c.CalmOK, c.Calm, c.Unknown, c.Retried, c.Mismatches, c.Weak,
		c.Access, c.Turned, c.Records, c.Leases, c.Expired, c.Entries, c.Compared, c.LeaderChanges, c.Installs, c.Conflicts, c.Repairs, c.PartitionsInFlight, strings.Join(faults, ", "))
}
