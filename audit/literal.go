package audit

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// quoted moves behind the string that begins here and returns what stands between
// its quotes, still escaped.
func (w *walker) quoted() ([]byte, error) {
	if w.peek() != '"' {
		return nil, errMalformed
	}
	from := w.pos + 1
	for i := from; i < len(w.src); i++ {
		switch c := w.src[i]; {
		case c == '"':
			w.pos = i + 1
			return w.src[from:i], nil
		case c == '\\':
			i++
		case c < 0x20:
			return nil, errMalformed
		}
	}
	return nil, errMalformed
}

// unquote reads a string as encoding/json would decode it, for that is the value
// that an engine sees and a person searches for. The result is good until the next
// call.
func (w *walker) unquote() ([]byte, error) {
	raw, err := w.quoted()
	if err != nil {
		return nil, err
	}
	if asIs(raw) {
		return raw, nil
	}
	w.scratch = w.scratch[:0]
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			r, n := utf8.DecodeRune(raw[i:])
			w.scratch = utf8.AppendRune(w.scratch, r)
			i += n
			continue
		}
		r, n := unescape(raw[i:])
		if n == 0 {
			return nil, errMalformed
		}
		w.scratch = utf8.AppendRune(w.scratch, r)
		i += n
	}
	return w.scratch, nil
}

func asIs(raw []byte) bool {
	ascii := true
	for _, c := range raw {
		if c == '\\' {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.Valid(raw)
}

// unescape reads the escape at the start of raw: its rune and length, which is 0 if
// it is none. A lone surrogate is U+FFFD.
func unescape(raw []byte) (rune, int) {
	if len(raw) < 2 {
		return 0, 0
	}
	switch raw[1] {
	case '"', '\\', '/':
		return rune(raw[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	r := unit(raw)
	if r < 0 {
		return 0, 0
	}
	if utf16.IsSurrogate(r) {
		if both := utf16.DecodeRune(r, unit(raw[6:])); both != utf8.RuneError {
			return both, 12
		}
		return utf8.RuneError, 6
	}
	return r, 6
}

// unit reads \uXXXX at the start of raw, or returns -1.
func unit(raw []byte) rune {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(raw[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

func delimiter(c byte) bool {
	switch c {
	case ',', '}', ']', ' ', '\t', '\n', '\r':
		return true
	}
	return false
}

// number tells whether b is a number, RFC 8259 section 6.
func number(b []byte) bool {
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	}
	n := digits(b)
	if n == 0 || n > 1 && b[0] == '0' {
		return false
	}
	if b = b[n:]; len(b) > 0 && b[0] == '.' {
		if n = digits(b[1:]); n == 0 {
			return false
		}
		b = b[1+n:]
	}
	if len(b) > 0 && (b[0] == 'e' || b[0] == 'E') {
		if b = b[1:]; len(b) > 0 && (b[0] == '+' || b[0] == '-') {
			b = b[1:]
		}
		n = digits(b)
		return n > 0 && n == len(b)
	}
	return len(b) == 0
}

func digits(b []byte) int {
	n := 0
	for n < len(b) && b[n] >= '0' && b[n] <= '9' {
		n++
	}
	return n
}
