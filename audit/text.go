package audit

import (
	"strconv"
	"unicode"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// plain tells which bytes a JSON string may hold as they are.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := byte(0x20); c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendText appends s as a JSON string of at most limit bytes of s. Everything
// that could move a cursor, hide or reorder what a terminal shows (control and
// format characters, line separators) is escaped; what is not UTF-8 becomes U+FFFD.
func appendText[T string | []byte](dst []byte, s T, limit int) []byte {
	dst = append(dst, '"')
	dst = appendEscaped(dst, s, limit)
	return append(dst, '"')
}

func appendEscaped[T string | []byte](dst []byte, s T, limit int) []byte {
	kept := len(s)
	if kept > limit {
		for kept = limit; kept > 0 && !utf8.RuneStart(s[kept]); {
			kept--
		}
	}
	from := 0
	for i := 0; i < kept; {
		c := s[i]
		if c < utf8.RuneSelf {
			if !plain[c] {
				dst = append(dst, s[from:i]...)
				dst = appendEscapedByte(dst, c)
				from = i + 1
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, kept)]))
		if r == utf8.RuneError && n == 1 || hidden(r) {
			dst = append(dst, s[from:i]...)
			dst = appendEscapedRune(dst, r)
			from = i + n
		}
		i += n
	}
	dst = append(dst, s[from:kept]...)
	if kept < len(s) {
		dst = append(dst, "…(+"...)
		dst = strconv.AppendInt(dst, int64(len(s)-kept), 10)
		dst = append(dst, " bytes)"...)
	}
	return dst
}

// hidden tells of a rune that a reader cannot see: C1 controls, bidirectional and
// zero-width marks, line and paragraph separators.
func hidden(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

func appendEscapedByte(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return appendUnit(dst, uint16(c))
}

func appendEscapedRune(dst []byte, r rune) []byte {
	if r > 0xffff { // a surrogate pair, RFC 8259 section 7
		r -= 0x10000
		dst = appendUnit(dst, uint16(0xd800+r>>10))
		return appendUnit(dst, uint16(0xdc00+r&0x3ff))
	}
	return appendUnit(dst, uint16(r))
}

func appendUnit(dst []byte, u uint16) []byte {
	return append(dst, '\\', 'u', hexDigits[u>>12], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15])
}
