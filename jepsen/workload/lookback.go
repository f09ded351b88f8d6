package workload

import "github.com/conclave-secrets/conclave/jepsen/history"

// LookBack reads every secret, every list, every bank, what else is at paths, and the
// newest leases once more, and uses the newest tokens and policies: the checkers then miss whatever was
// acknowledged and is gone. Nothing is wrong with the cluster any more, and goOn tells
// whether there is time.
func (c *Client) LookBack(node int, paths []string, goOn func() bool) {
	var asked []*history.Op
	for _, path := range append(c.world.Paths(), paths...) {
		asked = append(asked, c.secretOp(history.Get, path))
	}
	for _, l := range c.world.knownLeases() {
		asked = append(asked, leaseOp(history.Lookup, l))
	}
	asked = append(asked, c.world.banksSoFar()...)
	for _, o := range append(asked, c.world.lastUses()...) {
		if !goOn() {
			c.world.watch.Report("the run was ended before everything was read back")
			return
		}
		if c.send(o, node); o.Outcome != history.Done && o.Outcome != history.Refused {
			c.world.watch.Report("no answer although nothing was wrong any more: %v", o)
		}
	}
}
