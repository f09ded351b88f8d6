package policy

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// A numeral is a number in one canonical spelling, so that equal numbers are
// equal strings: 1, 1.0 and 10e-1 are "1e0". Large ones stay exact.
type numeral string

// maxExponent bounds what is still taken for a number.
const maxExponent = 1 << 20

func parseNumeral(text string) (numeral, bool) {
	if !jsonNumber(text) {
		return "", false
	}
	mantissa, negative := strings.CutPrefix(text, "-")
	exponent := 0
	if i := strings.IndexAny(mantissa, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(mantissa[i+1:]); err != nil || exponent > maxExponent || exponent < -maxExponent {
			return "", false
		}
		mantissa = mantissa[:i]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	exponent -= len(fraction)
	digits := strings.TrimLeft(whole+fraction, "0")
	short := strings.TrimRight(digits, "0")
	if short == "" {
		return "0e0", true
	}
	if negative {
		short = "-" + short
	}
	return numeral(short + "e" + strconv.Itoa(exponent+len(digits)-len(strings.TrimRight(digits, "0")))), true
}

// canonical turns a request's value into nil, bool, string, numeral, []any or
// map[string]any of these. It fails for what JSON does not have: such a value
// cannot be judged and is refused wherever values are constrained.
func canonical(value any) (any, bool) {
	switch v := value.(type) {
	case nil, bool, string, numeral:
		return v, true
	case json.Number:
		return okNumeral(string(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, false
		}
		return okNumeral(strconv.FormatFloat(v, 'g', -1, 64))
	case int:
		return okNumeral(strconv.Itoa(v))
	case int64:
		return okNumeral(strconv.FormatInt(v, 10))
	case uint64:
		return okNumeral(strconv.FormatUint(v, 10))
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			list[i] = s
		}
		return list, true
	case []any:
		list := make([]any, len(v))
		for i := range v {
			var ok bool
			if list[i], ok = canonical(v[i]); !ok {
				return nil, false
			}
		}
		return list, true
	case map[string]any:
		object := make(map[string]any, len(v))
		for key := range v {
			var ok bool
			if object[key], ok = canonical(v[key]); !ok {
				return nil, false
			}
		}
		return object, true
	}
	return nil, false
}

func okNumeral(text string) (any, bool) {
	n, ok := parseNumeral(text)
	return n, ok
}

// equal compares canonical values.
func equal(a, b any) bool {
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for key := range a {
			other, ok := b[key]
			if !ok || !equal(a[key], other) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []any, map[string]any:
		return false
	}
	return a == b
}

// glob matches a string against a value of a policy in which a * at the start,
// at the end or at both stands for anything. A lone * is a star: Vault reads it so.
func glob(value, text string) bool {
	if len(value) < 2 {
		return value == text
	}
	tail, anyHead := strings.CutPrefix(value, "*")
	middle, anyTail := strings.CutSuffix(tail, "*")
	switch {
	case anyHead && anyTail:
		return strings.Contains(text, middle)
	case anyHead:
		return strings.HasSuffix(text, tail)
	case anyTail:
		return strings.HasPrefix(text, strings.TrimSuffix(value, "*"))
	}
	return value == text
}

// allows tells whether a canonical value is among those that allowed_parameters
// lists. A list is allowed as a whole, or element by element (Vault 1.21). A
// string with commas may be a list in disguise, so it is allowed if it is listed
// as it stands or if each of its parts is: a * does not reach across a comma.
func allows(listed []any, value any) bool {
	for _, l := range listed {
		if equal(l, value) {
			return true
		}
	}
	switch v := value.(type) {
	case string:
		for part := range strings.SplitSeq(v, ",") {
			if !allowsText(listed, strings.TrimSpace(part)) {
				return false
			}
		}
		return true
	case []any:
		for _, element := range v {
			if !allows(listed, element) {
				return false
			}
		}
		return len(v) > 0
	}
	return false
}

func allowsText(listed []any, text string) bool {
	for _, l := range listed {
		if l, ok := l.(string); ok && glob(l, text) {
			return true
		}
	}
	return false
}

// denies tells whether a canonical value is among those that denied_parameters
// lists, as it stands, in one of its elements, or in one of the parts between
// its commas. Kinds are no escape: a denied true denies "true", "T" and 1 too,
// because whoever reads the parameter takes them for the same.
func denies(listed []any, value any) bool {
	for _, l := range listed {
		if equal(l, value) || deniesScalar(l, value) {
			return true
		}
	}
	switch v := value.(type) {
	case string:
		if !strings.Contains(v, ",") {
			return false
		}
		for part := range strings.SplitSeq(v, ",") {
			if denies(listed, strings.TrimSpace(part)) {
				return true
			}
		}
	case []any:
		for _, element := range v {
			if denies(listed, element) {
				return true
			}
		}
	}
	return false
}

func deniesScalar(listed, value any) bool {
	text, ok := scalarText(value)
	if !ok {
		return false
	}
	switch l := listed.(type) {
	case string:
		if l == "*" || glob(l, text) || glob(l, strings.TrimSpace(text)) {
			return true
		}
		number, isNumber := parseNumeral(l)
		return isNumber && sameNumber(number, value, text)
	case bool:
		meant, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(text)))
		return err == nil && meant == l
	case numeral:
		return sameNumber(l, value, text)
	}
	return false
}

func sameNumber(listed numeral, value any, text string) bool {
	if n, ok := value.(numeral); ok {
		return n == listed
	}
	n, ok := parseNumeral(strings.TrimSpace(text))
	return ok && n == listed
}

// scalarText spells a string, bool or number as a client would.
func scalarText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case numeral:
		return v.decimal(), true
	}
	return "", false
}

// decimal spells a number without an exponent, if it is not too long for that.
func (n numeral) decimal() string {
	digits, exponentText, _ := strings.Cut(string(n), "e")
	exponent, err := strconv.Atoi(exponentText)
	digits, negative := strings.CutPrefix(digits, "-")
	if err != nil || exponent > 32 || exponent < -32 {
		return string(n)
	}
	if exponent >= 0 {
		digits += strings.Repeat("0", exponent)
	} else {
		digits = strings.Repeat("0", max(0, 1-exponent-len(digits))) + digits
		digits = digits[:len(digits)+exponent] + "." + digits[len(digits)+exponent:]
	}
	if negative {
		return "-" + digits
	}
	return digits
}
