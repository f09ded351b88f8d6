package workload

import (
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// lastTries is how often a request of the last look is sent while it is not answered: a
// machine that has more to do than it can may still be stalling a node's disk.
const lastTries = 6

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
		c.insist(*o, node)
	}
}

// insist sends a request until it is answered, and reports one that is not.
func (c *Client) insist(o history.Op, node int) {
	for try := 1; ; try++ {
		attempt := o
		c.send(&attempt, node)
		switch {
		case attempt.Outcome == history.Done || attempt.Outcome == history.Refused:
			return
		case try == lastTries:
			c.world.watch.Report("no answer although nothing was wrong any more: %v", &attempt)
			return
		}
		c.world.wait(time.Second)
	}
}
