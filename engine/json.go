package engine

import (
	"encoding/json"
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
	depth := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '[', '{':
			if depth++; depth > MaxDepth {
				return &InvalidError{fmt.Sprintf("a value nests deeper than %d", MaxDepth)}
			}
		case ']', '}':
			depth--
		case '"':
			end, paired := skipString(raw, i+1)
			if !paired {
				return &InvalidError{"a value has half a surrogate pair in a text"}
			}
			i = end
		}
	}
	return nil
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
