package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The types that the fields of a request may have beside string. They take what
// clients have always sent: a command line sends every value as text, so numbers
// and truth values may come as strings, lists with commas, maps as k=v pairs, and
// durations as seconds or in words. They print as the plain JSON that readers expect.

// A Duration is a whole number of seconds, or text such as "90", "1h30m" or "2d".
type Duration time.Duration

// MaxDuration bounds a Duration that a client sends: 100 years.
const MaxDuration = 100 * 365 * 24 * time.Hour

// ParseDuration reads seconds or a duration in words; "d" stands for 24 hours.
func ParseDuration(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return 0, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return inRange(float64(n) * float64(time.Second))
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err != nil {
			return 0, fmt.Errorf("is no duration, such as 90, 1h30m or 2d")
		}
		return inRange(n * float64(24*time.Hour))
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("is no duration, such as 90, 1h30m or 2d")
	}
	return inRange(float64(d))
}

func inRange(nanoseconds float64) (time.Duration, error) {
	switch {
	case math.IsNaN(nanoseconds):
		return 0, fmt.Errorf("is no number")
	case nanoseconds < 0:
		return 0, fmt.Errorf("is negative")
	case nanoseconds > float64(MaxDuration):
		return 0, fmt.Errorf("is longer than 100 years")
	}
	return time.Duration(nanoseconds), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(p []byte) error {
	text, err := scalar(p)
	if err != nil {
		return err
	}
	if f, ferr := strconv.ParseFloat(text, 64); ferr == nil && !strings.ContainsAny(text, "xX_") { // 1.5, 1e3
		v, err := inRange(f * float64(time.Second))
		*d = Duration(v.Truncate(time.Second))
		return err
	}
	v, err := ParseDuration(text)
	*d = Duration(v)
	return err
}

// MarshalJSON prints whole seconds.
func (d Duration) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, int64(time.Duration(d)/time.Second), 10), nil
}

// A Bool is true or false, as such or as text, or 1 or 0.
type Bool bool

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bool) UnmarshalJSON(p []byte) error {
	text, err := scalar(p)
	if err != nil {
		return err
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return fmt.Errorf("is neither true nor false")
	}
	*b = Bool(v)
	return nil
}

// An Int is a whole number, as such or as text.
type Int int64

// UnmarshalJSON implements json.Unmarshaler.
func (i *Int) UnmarshalJSON(p []byte) error {
	text, err := scalar(p)
	if err != nil {
		return err
	}
	v, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("is no whole number, or does not fit in 64 bits")
	}
	*i = Int(v)
	return nil
}

// A Text is a string; a number or a truth value becomes the text that was sent.
type Text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *Text) UnmarshalJSON(p []byte) error {
	text, err := scalar(p)
	*t = Text(text)
	return err
}

// MaxElements bounds the lists, the maps and the objects that a request may hold, by
// their elements. Requests are read before it is known who sends them, and an element
// of two bytes takes a hundred in memory.
const MaxElements = 1 << 16

var errElements = fmt.Errorf("has more than %d elements", MaxElements)

// crowded tells whether raw, JSON or text, may have too many elements: none is without
// a comma. Commas within texts count, so what it calls crowded need not be.
func crowded(raw []byte) bool { return bytes.Count(raw, []byte(",")) >= MaxElements }

// Strings is a list, or text with commas between. Empty elements are left out.
type Strings []string

// UnmarshalJSON implements json.Unmarshaler.
func (s *Strings) UnmarshalJSON(p []byte) error {
	*s = Strings{}
	if crowded(p) {
		return errElements
	}
	var list []Text
	if len(p) > 0 && p[0] == '[' {
		if err := json.Unmarshal(p, &list); err != nil {
			return fmt.Errorf("is no list of strings")
		}
	} else {
		text, err := scalar(p)
		if err != nil {
			return fmt.Errorf("is no list of strings")
		}
		for part := range strings.SplitSeq(text, ",") {
			list = append(list, Text(part))
		}
	}
	for _, e := range list {
		if v := strings.TrimSpace(string(e)); v != "" {
			*s = append(*s, v)
		}
	}
	return nil
}

// MarshalJSON prints an array, never null.
func (s Strings) MarshalJSON() ([]byte, error) {
	if s == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]string(s))
}

// Ints is a list of whole numbers, or text with commas between.
type Ints []int64

// UnmarshalJSON implements json.Unmarshaler.
func (s *Ints) UnmarshalJSON(p []byte) error {
	var list Strings
	if err := list.UnmarshalJSON(p); err != nil {
		return fmt.Errorf("is no list of whole numbers")
	}
	*s = Ints{}
	for _, e := range list {
		n, err := strconv.ParseInt(e, 10, 64)
		if err != nil {
			return fmt.Errorf("is no list of whole numbers")
		}
		*s = append(*s, n)
	}
	return nil
}

// A Map is an object of strings, a list of k=v pairs, or text with commas
// between such pairs.
type Map map[string]string

// UnmarshalJSON implements json.Unmarshaler.
func (m *Map) UnmarshalJSON(p []byte) error {
	*m = Map{}
	if crowded(p) {
		return errElements
	}
	if len(p) > 0 && p[0] == '{' {
		var object map[string]Text
		if err := json.Unmarshal(p, &object); err != nil {
			return fmt.Errorf("is no map of strings")
		}
		for k, v := range object {
			(*m)[k] = string(v)
		}
		return nil
	}
	var pairs Strings
	if err := pairs.UnmarshalJSON(p); err != nil {
		return fmt.Errorf("is no map of strings")
	}
	for _, pair := range pairs {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("is no map of strings: a pair has no =")
		}
		(*m)[strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return nil
}

// An Object is a JSON object whose values are kept as they were written: numbers
// do not pass through a float. It is what users store.
type Object map[string]json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (o *Object) UnmarshalJSON(p []byte) error {
	if crowded(p) && members(p) > MaxElements {
		return errElements
	}
	return json.Unmarshal(p, (*map[string]json.RawMessage)(o))
}

// scalar returns the text of a JSON string, number or truth value; null is "".
func scalar(p []byte) (string, error) {
	p = bytes.TrimSpace(p)
	switch {
	case len(p) == 0 || bytes.Equal(p, []byte("null")):
		return "", nil
	case p[0] == '"':
		var s string
		if err := json.Unmarshal(p, &s); err != nil {
			return "", fmt.Errorf("is no text")
		}
		return s, nil
	case p[0] == '{' || p[0] == '[':
		return "", fmt.Errorf("is a structure where a single value belongs")
	}
	return string(p), nil
}
