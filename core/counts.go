package core

import (
	"crypto/sha256"

	"github.com/conclave-secrets/conclave/fsm"
)

// Leases and tokens are counted by the machine, each for a tally, so that to know how
// many there are costs a read of one row, however many there are. One that has just
// expired counts until an entry ends it.

// tokenTally is what all tokens count for.
var tokenTally = fsm.Key{byte(spaceToken), 1}

// leaseTally is what the leases count for whose ids lie in a mount; "": in none.
func leaseTally(mountID string) fsm.Key {
	return append(fsm.Key{byte(spaceLease), 1}, mountDigest(mountID)...)
}

// mountEffects begins the name of every outside system of a mount.
func mountEffects(mountID string) fsm.Key {
	return append(fsm.Key{byte(spaceMount), 3}, mountDigest(mountID)...)
}

// mountDigest stands for a mount in keys that others can see.
func mountDigest(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return sum[:16]
}

// CountLeases counts the leases that the Leases calls know, by the path of the mount
// that their ids lie in; "" where there is none. With revoking, it counts only those
// that wait for the outside world to be put right.
func (t *tx) CountLeases(revoking bool) (map[string]uint64, error) {
	table, err := t.mounts()
	if err != nil {
		return nil, err
	}
	paths := map[string]string{"": ""} // by mount
	for _, m := range table.byPath {
		paths[m.ID] = m.Path
	}
	counts := map[string]uint64{}
	for id, path := range paths {
		n, err := t.countLeases(id, revoking)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			counts[path] += n
		}
	}
	return counts, nil
}

func (t *tx) countLeases(mountID string, revoking bool) (n uint64, err error) {
	if !revoking {
		n, err = t.view.Tally(leaseTally(mountID))
	}
	if err != nil {
		return 0, err
	}
	waiting, err := t.countWaiting(mountEffects(mountID))
	return n + waiting, err
}

// countWaiting counts what waits to be undone in the outside systems below prefix.
func (t *tx) countWaiting(prefix fsm.Key) (sum uint64, err error) {
	effects, err := t.view.Keys(fsm.Effects, prefix)
	if err != nil {
		return 0, err
	}
	for effects.Next() {
		n, err := t.view.Undone(effects.Key())
		if err != nil {
			return 0, firstError(err, effects.Close())
		}
		sum += n
	}
	return sum, effects.Close()
}

// Waiting counts the effects on outside systems that wait to be undone, as far as this
// node knows. It needs no keys.
func (p *Pipeline) Waiting() (n uint64, err error) {
	view, err := p.ledger.View()
	if err != nil {
		return 0, err
	}
	defer closeView(view, &err)
	return (&tx{view: view}).countWaiting(nil)
}

// CountTokens counts the tokens that are kept.
func (t *tx) CountTokens() (uint64, error) { return t.view.Tally(tokenTally) }
