package userpass

import (
	"strconv"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// lockout says when a name is locked: after threshold failed logins of which each
// follows another within window, for duration after the last of them. All times
// are log time. The defaults are those of Vault.
type lockout struct {
	off              bool
	threshold        int
	duration, window time.Duration
}

func parseLockout(options map[string]string) (l lockout, err error) {
	l = lockout{threshold: 5, duration: 15 * time.Minute, window: 15 * time.Minute}
	if v, ok := options["lockout_threshold"]; ok {
		if l.threshold, err = strconv.Atoi(v); err != nil || l.threshold < 1 || l.threshold > 1000 {
			return l, &engine.InvalidError{Why: "the option lockout_threshold must be a number from 1 to 1000"}
		}
	}
	for name, to := range map[string]*time.Duration{"lockout_duration": &l.duration, "lockout_counter_reset": &l.window} {
		v, ok := options[name]
		if !ok {
			continue
		}
		if *to, err = engine.ParseDuration(v); err != nil || *to < time.Second {
			return l, &engine.InvalidError{Why: "the option " + name + " must be a duration of a second or more, such as 15m"}
		}
	}
	if v, ok := options["lockout_disable"]; ok {
		if l.off, err = strconv.ParseBool(v); err != nil {
			return l, &engine.InvalidError{Why: "the option lockout_disable must be true or false"}
		}
	}
	return l, nil
}

// failures is the record of a name's failed logins.
type failures struct {
	Count int       `json:"count"`
	Last  time.Time `json:"last"`
}

func failuresPath(name string) engine.Path { return engine.Path{"failures", name} }

// read returns the failures of a name; nil if there are none of late. The record
// is guarded: who logs in, and who fails, does so on the count that is current.
func (l lockout) read(tx engine.Tx, name string) (*failures, error) {
	if l.off {
		return nil, nil
	}
	f := &failures{}
	found, err := engine.GetJSON(tx, failuresPath(name), f)
	if err != nil || !found {
		return nil, err
	}
	return f, nil
}

// locked tells whether the name may not log in now.
func (l lockout) locked(f *failures, now time.Time) bool {
	return f != nil && f.Count >= l.threshold && now.Before(f.Last.Add(l.duration))
}

// stage stages one more failure.
func (l lockout) stage(tx engine.Tx, name string, f *failures) error {
	next := failures{Count: 1, Last: tx.Now()}
	if f != nil && !l.forgotten(f, tx.Now()) {
		next.Count = f.Count + 1
	}
	value, err := engine.EncodeJSON(next)
	if err != nil {
		return err
	}
	return tx.PutExpiring(failuresPath(name), value, max(l.window, l.duration))
}

// forgotten tells whether f counts no more: its window or its lock is over.
func (l lockout) forgotten(f *failures, now time.Time) bool {
	if f.Count >= l.threshold {
		return !now.Before(f.Last.Add(l.duration))
	}
	return !now.Before(f.Last.Add(l.window))
}
