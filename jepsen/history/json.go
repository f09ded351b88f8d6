package history

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// opJSON is an op as files have it: short names, and words instead of the numbers
// of enumerations, so that a file can be read without this program.
type opJSON struct {
	Client   int           `json:"client"`
	Node     int           `json:"node"`
	Life     int           `json:"life,omitempty"`
	Kind     Kind          `json:"kind"`
	Key      string        `json:"key,omitempty"`
	Called   time.Duration `json:"called"` // ns, as all durations
	Returned time.Duration `json:"returned"`
	Sent     int           `json:"sent,omitempty"`
	Faulty   bool          `json:"faulty,omitempty"`
	Value    string        `json:"value,omitempty"`
	CAS      *uint64       `json:"cas,omitempty"`
	Version  uint64        `json:"version,omitempty"`
	TTL      time.Duration `json:"ttl,omitempty"`
	Level    string        `json:"level,omitempty"`
	AtLeast  uint64        `json:"at_least,omitempty"`
	MaxAge   time.Duration `json:"max_age,omitempty"`
	Outcome  string        `json:"outcome"`
	Reason   string        `json:"reason,omitempty"`
	Number   uint64        `json:"number,omitempty"`
	Read     string        `json:"read,omitempty"`
	Index    uint64        `json:"index,omitempty"`
	Expires  int64         `json:"expires,omitempty"`  // ns since 1970
	LogTime  int64         `json:"log_time,omitempty"` // ns since 1970
}

// MarshalJSON implements json.Marshaler.
func (o *Op) MarshalJSON() ([]byte, error) {
	j := opJSON{
		Client: o.Client, Node: o.Node, Life: o.Life, Kind: o.Kind, Key: o.Key, Called: o.Called, Returned: o.Returned, Sent: o.Sent,
		Faulty: o.Faulty, Value: o.Value, CAS: o.CAS, Version: o.Version, TTL: o.TTL, AtLeast: o.AtLeast, MaxAge: o.MaxAge,
		Outcome: o.Outcome.String(), Number: o.Number, Read: o.Read, Index: o.Index, Expires: unixNano(o.Expires), LogTime: unixNano(o.LogTime),
	}
	if o.Level != 0 {
		j.Level = o.level()
	}
	if o.Reason != 0 {
		j.Reason = o.reason()
	}
	return json.Marshal(j)
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *Op) UnmarshalJSON(p []byte) error {
	var j opJSON
	if err := json.Unmarshal(p, &j); err != nil {
		return err
	}
	*o = Op{
		Client: j.Client, Node: j.Node, Life: j.Life, Kind: j.Kind, Key: j.Key, Called: j.Called, Returned: j.Returned, Sent: j.Sent,
		Faulty: j.Faulty, Value: j.Value, CAS: j.CAS, Version: j.Version, TTL: j.TTL, AtLeast: j.AtLeast, MaxAge: j.MaxAge,
		Number: j.Number, Read: j.Read, Index: j.Index, Expires: fromUnixNano(j.Expires), LogTime: fromUnixNano(j.LogTime),
	}
	for _, known := range []Outcome{Done, Refused, NotDone, Unknown} {
		if known.String() == j.Outcome {
			o.Outcome = known
		}
	}
	if o.Outcome == 0 {
		return fmt.Errorf("outcome %q: %w", j.Outcome, ErrFormat)
	}
	if j.Level != "" {
		n, ok := conclavev1.Consistency_value[levelPrefix+enumeral(j.Level)]
		if !ok {
			return fmt.Errorf("level %q: %w", j.Level, ErrFormat)
		}
		o.Level = conclavev1.Consistency(n)
	}
	if j.Reason != "" {
		n, ok := conclavev1.Reason_value[reasonPrefix+enumeral(j.Reason)]
		if !ok {
			return fmt.Errorf("reason %q: %w", j.Reason, ErrFormat)
		}
		o.Reason = conclavev1.Reason(n)
	}
	return nil
}

const (
	levelPrefix  = "CONSISTENCY_"
	reasonPrefix = "REASON_"
)

func (o *Op) level() string  { return word(o.Level.String(), levelPrefix) }
func (o *Op) reason() string { return word(o.Reason.String(), reasonPrefix) }

// word spells a value of an enumeration as programs do: REASON_NOT_FOUND is not-found.
func word(name, prefix string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, prefix), "_", "-"))
}

// enumeral undoes word, but for the prefix.
func enumeral(word string) string { return strings.ToUpper(strings.ReplaceAll(word, "-", "_")) }

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromUnixNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
