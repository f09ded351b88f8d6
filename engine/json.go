package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may nest in a JSON value that a user
// stores. Whoever reads it later recurses, and not all readers bound that.
const MaxDepth = 300

// CheckJSON tells whether raw is a JSON value that can be stored and read back
// as it is: well-formed, at most MaxDepth deep, and Unicode throughout. Half a
// surrogate pair (RFC 8259, section 8.2) is refused and not replaced, as
// encoding/json would: a secret that was altered in silence is lost. The error
// is an InvalidError about "a value", which quotes nothing.
func CheckJSON(raw []byte) error {
	if !utf8.Valid(raw) {
		return &InvalidError{"a value is not valid UTF-8"}
	}
	if !json.Valid(raw) {
		return &InvalidError{"a value is not valid JSON"}
	}
	if deeper(raw, MaxDepth) {
		return &InvalidError{fmt.Sprintf("a value nests deeper than %d", MaxDepth)}
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] == '"' {
			end, paired := skipString(raw, i+1)
			if !paired {
				return &InvalidError{"a value has half a surrogate pair in a text"}
			}
			i = end
		}
	}
	return nil
}

// MaxBodyDepth is how deep a request's body may nest.
const MaxBodyDepth = 64

// ParseBody reads the body of a request, a JSON object, as every transport gets
// it; blank or null is no object, nil. The depth is checked before anything recurses into
// it. The error is an InvalidError that quotes nothing. The object's values are
// parts of raw, which it keeps.
func ParseBody(raw []byte) (Object, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, nil
	}
	if deeper(raw, MaxBodyDepth) {
		return nil, &InvalidError{fmt.Sprintf("failed to decode JSON input: it nests deeper than %d", MaxBodyDepth)}
	}
	var body Object
	switch err := json.Unmarshal(raw, &body); {
	case errors.Is(err, errElements):
		return nil, &InvalidError{"failed to decode JSON input: it " + errElements.Error()}
	case err != nil: // the text of json's error may quote the body
		return nil, &InvalidError{"failed to decode JSON input: it is no JSON object"}
	}
	return body, nil
}

// deeper tells whether what may be JSON nests deeper than limit. Of what is none,
// it tells no more than that a reader would stop before that depth.
func deeper(p []byte, limit int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(p); i++ {
		switch {
		case quoted && p[i] == '\\':
			i++
		case p[i] == '"':
			quoted = !quoted
		case quoted:
		case p[i] == '{' || p[i] == '[':
			if depth++; depth > limit {
				return true
			}
		case p[i] == '}' || p[i] == ']':
			depth--
		}
	}
	return false
}

// members is how many members the object in p has, if it is a valid one.
func members(p []byte) int {
	n, depth, quoted := 1, 0, false
	for i := 0; i < len(p); i++ {
		switch {
		case quoted && p[i] == '\\':
			i++
		case p[i] == '"':
			quoted = !quoted
		case quoted:
		case p[i] == '{' || p[i] == '[':
			depth++
		case p[i] == '}' || p[i] == ']':
			depth--
		case p[i] == ',' && depth == 1:
			n++
		}
	}
	return n
}

// skipString walks over the string of a valid JSON value that begins at i, and
// returns where its closing quote is. paired is false where an escaped surrogate
// stands alone.
func skipString(raw []byte, i int) (end int, paired bool) {
	for ; raw[i] != '"'; i++ {
		if raw[i] != '\\' {
			continue
		}
		if i++; raw[i] != 'u' {
			continue
		}
		switch unit := hex4(raw[i+1:]); {
		case 0xDC00 <= unit && unit < 0xE000:
			return i, false
		case 0xD800 <= unit && unit < 0xDC00:
			low := raw[i+5:]
			if low[0] != '\\' || low[1] != 'u' {
				return i, false
			}
			if unit := hex4(low[2:]); unit < 0xDC00 || unit >= 0xE000 {
				return i, false
			}
			i += 6
		}
		i += 4
	}
	return i, true
}

// hex4 reads four hexadecimal digits of a valid escape.
func hex4(p []byte) (unit rune) {
	for _, c := range p[:4] {
		digit := rune(c)
		switch {
		case c >= 'a':
			digit -= 'a' - 10
		case c >= 'A':
			digit -= 'A' - 10
		default:
			digit -= '0'
		}
		unit = unit<<4 | digit
	}
	return unit
}

// CheckObject is CheckJSON for each value of an object.
func CheckObject(o Object) error {
	for name, raw := range o {
		if !utf8.ValidString(name) {
			return &InvalidError{"a name is not valid UTF-8"}
		}
		if err := CheckJSON(raw); err != nil {
			return err
		}
	}
	return nil
}
