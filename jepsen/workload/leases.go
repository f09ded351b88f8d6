package workload

import (
	"slices"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/history"
)

// granted is a lease that some client got.
type granted struct {
	id  string
	ttl time.Duration
}

func (w *World) keepLease(l granted) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leases = append(w.leases, l)
}

// leasesRead is how many of the leases are read once more when all is over.
const leasesRead = 100

// knownLeases are the newest leases.
func (w *World) knownLeases() []granted {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.leases[max(0, len(w.leases)-leasesRead):])
}

func (c *Client) pickLease() *history.Op {
	leases := c.world.knownLeases()
	if len(leases) == 0 || c.rng.Float64() < 0.2 {
		ttls := c.world.options.TTLs
		return &history.Op{Kind: history.Grant, TTL: ttls[c.rng.IntN(len(ttls))]}
	}
	recent := leases[max(0, len(leases)-4):]
	l := recent[c.rng.IntN(len(recent))]
	switch p := c.rng.Float64(); {
	case p < 0.5:
		return leaseOp(history.Lookup, l)
	case p < 0.9:
		return leaseOp(history.Renew, l)
	default:
		return leaseOp(history.Revoke, l)
	}
}

func leaseOp(kind history.Kind, l granted) *history.Op {
	return &history.Op{Kind: kind, Key: l.id, TTL: l.ttl}
}
