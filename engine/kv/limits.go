package kv

import (
	"fmt"

	"github.com/conclave-secrets/conclave/engine"
)

// How many versions a secret keeps is the larger of its own limit and its
// mount's. The state machine, which has no key to read a mount's settings with,
// knows one number for each secret: the one in force, engine.Head.Keep. Where
// that is not the secret's own limit, the own one lies in a record apart.
//
// A mount's new limit reaches a secret with its next version, as a secret's own
// does: until then nothing is removed, and no request has to visit all secrets.

// ownLimitRecord is a secret's own limit, 0 for none.
type ownLimitRecord struct {
	MaxVersions uint64 `json:"max_versions"`
}

func ownLimitPath(p engine.Path) engine.Path {
	return append(engine.Path{ownSegment, "limit"}, p...)
}

// ownLimit is what the secret itself says; 0: nothing. head may be nil.
func ownLimit(tx engine.Tx, p engine.Path, head *engine.Head, c *config) (uint64, error) {
	if head == nil {
		return 0, nil
	}
	if !c.Limits {
		return head.Keep, nil
	}
	var own ownLimitRecord
	there, err := engine.GetJSON(tx, ownLimitPath(p), &own)
	if err != nil || there {
		return own.MaxVersions, err
	}
	return head.Keep, nil
}

// setOwnLimit stages the limit of a secret: its own, and the one in force.
func setOwnLimit(tx engine.Tx, p engine.Path, own uint64, c *config) error {
	force := max(own, c.MaxVersions)
	if err := tx.SetLimits(p, force); err != nil {
		return err
	}
	switch {
	case !c.Limits:
		return nil
	case own == force:
		return tx.DeleteRecord(ownLimitPath(p))
	}
	return engine.PutJSON(tx, ownLimitPath(p), ownLimitRecord{own})
}

// enforceLimit stages the limit that is to hold when the next version comes, if
// it is not the one in force. It comes before the version in the transaction.
func enforceLimit(tx engine.Tx, p engine.Path, head *engine.Head, c *config) error {
	if !c.Limits {
		return nil
	}
	own, err := ownLimit(tx, p, head, c)
	if err != nil {
		return err
	}
	if head != nil && head.Keep == max(own, c.MaxVersions) {
		return nil
	}
	return setOwnLimit(tx, p, own, c)
}

// forgetLimit stages the end of a secret's own limit.
func forgetLimit(tx engine.Tx, p engine.Path, c *config) error {
	if !c.Limits {
		return nil
	}
	return tx.DeleteRecord(ownLimitPath(p))
}

func checkLimit(keep uint64) error {
	if keep > maxVersionsLimit {
		return &engine.InvalidError{Why: fmt.Sprintf("max_versions is above %d", maxVersionsLimit)}
	}
	return nil
}
