package policy

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenIdent
	tokenString
	tokenNumber
	tokenOpenBrace
	tokenCloseBrace
	tokenOpenBracket
	tokenCloseBracket
	tokenComma
	tokenAssign
)

var punctuation = map[byte]tokenKind{
	'{': tokenOpenBrace, '}': tokenCloseBrace, '[': tokenOpenBracket, ']': tokenCloseBracket, ',': tokenComma, '=': tokenAssign,
}

// A comment is kept for Format, with its marks. gap tells that a blank line
// stands before it.
type comment struct {
	text    string
	at      position
	endLine int
	gap     bool
}

// A token carries the comments that stand between it and the token before it.
type token struct {
	kind    tokenKind
	text    string // of a string: what it means, not how it is spelled
	at      position
	endLine int
	gap     bool
	lead    []comment
}

func (t token) describe() string {
	switch t.kind {
	case tokenEnd:
		return "the end of the policy"
	case tokenString:
		return strconv.Quote(t.text)
	default:
		return "'" + t.text + "'"
	}
}

// A lexer reads the HCL that Vault's policies are written in: the first version
// of the language. Its text is valid UTF-8.
type lexer struct {
	text    string
	offset  int
	at      position
	endLine int // where the last token or comment ended
}

func newLexer(text string) *lexer {
	return &lexer{text: text, at: position{1, 1}, endLine: 1}
}

func (l *lexer) rest() string { return l.text[l.offset:] }

// skip moves over n bytes.
func (l *lexer) skip(n int) {
	for _, r := range l.text[l.offset : l.offset+n] {
		if r == '\n' {
			l.at = position{l.at.line + 1, 1}
		} else {
			l.at.column++
		}
	}
	l.offset += n
}

func (l *lexer) next() (token, error) {
	var lead []comment
	for {
		l.skip(len(l.rest()) - len(strings.TrimLeft(l.rest(), " \t\r\n")))
		if !strings.HasPrefix(l.rest(), "#") && !strings.HasPrefix(l.rest(), "//") && !strings.HasPrefix(l.rest(), "/*") {
			break
		}
		c, err := l.comment()
		if err != nil {
			return token{}, err
		}
		lead = append(lead, c)
	}
	t := token{at: l.at, gap: l.at.line-l.endLine > 1, lead: lead}
	err := l.scan(&t)
	l.endLine = l.at.line
	t.endLine = l.endLine
	return t, err
}

func (l *lexer) comment() (comment, error) {
	c := comment{at: l.at, gap: l.at.line-l.endLine > 1}
	if strings.HasPrefix(l.rest(), "/*") {
		end := strings.Index(l.rest()[2:], "*/")
		if end < 0 {
			return c, c.at.errorf("this comment has no closing */")
		}
		c.text = l.rest()[:end+4]
	} else {
		c.text, _, _ = strings.Cut(l.rest(), "\n")
	}
	l.skip(len(c.text))
	l.endLine = l.at.line
	c.endLine = l.endLine
	c.text = strings.TrimRight(c.text, " \t\r")
	return c, nil
}

// scan reads the token at hand into t.
func (l *lexer) scan(t *token) error {
	if l.rest() == "" {
		return nil
	}
	first, size := utf8.DecodeRuneInString(l.rest())
	if kind, ok := punctuation[l.rest()[0]]; ok {
		t.kind, t.text = kind, l.rest()[:1]
		l.skip(1)
		return nil
	}
	switch {
	case first == '"':
		return l.string(t)
	case first == '-' || first >= '0' && first <= '9':
		return l.number(t)
	case first == '_' || unicode.IsLetter(first):
		t.kind, t.text = tokenIdent, l.take(func(r rune) bool {
			return r == '_' || r == '-' || r == '.' || unicode.IsLetter(r) || unicode.IsDigit(r)
		})
		return nil
	case first == ':':
		return t.at.errorf("unexpected ':'; outside JSON a value follows '='")
	case strings.HasPrefix(l.rest(), "<<"):
		return t.at.errorf("a policy has no use for heredocs; write a quoted string")
	case first == '\'':
		return t.at.errorf("strings stand in double quotes")
	}
	return t.at.errorf("unexpected character %q", l.rest()[:size])
}

// take moves over the characters that belong and returns them.
func (l *lexer) take(belongs func(rune) bool) string {
	n := strings.IndexFunc(l.rest(), func(r rune) bool { return !belongs(r) })
	if n < 0 {
		n = len(l.rest())
	}
	text := l.rest()[:n]
	l.skip(n)
	return text
}

// number reads decimal numbers only. The first HCL also had octal and
// hexadecimal ones, in which 010 means eight: refusing is clearer.
func (l *lexer) number(t *token) error {
	t.kind, t.text = tokenNumber, l.take(func(r rune) bool {
		return r == '-' || r == '+' || r == '.' || unicode.IsLetter(r) || unicode.IsDigit(r)
	})
	if !jsonNumber(t.text) {
		return t.at.errorf("%q is not a decimal number", t.text)
	}
	return nil
}

// jsonNumber tells whether text is a number as JSON spells them.
func jsonNumber(text string) bool {
	digits := func() bool {
		n := len(text) - len(strings.TrimLeft(text, "0123456789"))
		text = text[n:]
		return n > 0
	}
	text = strings.TrimPrefix(text, "-")
	if strings.HasPrefix(text, "0") {
		text = text[1:]
	} else if !digits() {
		return false
	}
	if fraction, ok := strings.CutPrefix(text, "."); ok {
		text = fraction
		if !digits() {
			return false
		}
	}
	if text != "" && (text[0] == 'e' || text[0] == 'E') {
		text = text[1:]
		if text != "" && (text[0] == '+' || text[0] == '-') {
			text = text[1:]
		}
		if !digits() {
			return false
		}
	}
	return text == ""
}

func (l *lexer) string(t *token) error {
	t.kind = tokenString
	l.skip(1)
	var meaning strings.Builder
	for {
		n := strings.IndexAny(l.rest(), "\"\\\n\x00")
		if n < 0 || l.rest()[n] == '\n' {
			return t.at.errorf("this string has no closing quote on its line")
		}
		meaning.WriteString(l.rest()[:n])
		l.skip(n)
		switch l.rest()[0] {
		case 0:
			return l.at.errorf("a NUL byte in a string")
		case '"':
			l.skip(1)
			t.text = meaning.String()
			return nil
		}
		r, size, err := l.escape()
		if err != nil {
			return err
		}
		meaning.WriteRune(r)
		l.skip(size)
	}
}

var simpleEscapes = map[byte]rune{
	'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', '\\': '\\', '"': '"', '/': '/',
}

var longEscapes = map[byte]int{'x': 2, 'u': 4, 'U': 8}

// escape reads what stands after a backslash: the character meant and the bytes
// it took. An \x above 7f would make invalid text and is refused.
func (l *lexer) escape() (rune, int, error) {
	rest := l.rest()
	if len(rest) < 2 {
		return 0, 0, l.at.errorf("this string has no closing quote on its line")
	}
	if r, ok := simpleEscapes[rest[1]]; ok {
		return r, 2, nil
	}
	digits, ok := longEscapes[rest[1]]
	if !ok {
		_, size := utf8.DecodeRuneInString(rest[1:])
		return 0, 0, l.at.errorf("unknown escape %q in a string", rest[:1+size])
	}
	if len(rest) < 2+digits {
		return 0, 0, l.at.errorf("escape \\%c needs %d hexadecimal digits", rest[1], digits)
	}
	code, err := strconv.ParseUint(rest[2:2+digits], 16, 32)
	if err != nil {
		return 0, 0, l.at.errorf("escape \\%c needs %d hexadecimal digits", rest[1], digits)
	}
	if code == 0 || !utf8.ValidRune(rune(code)) || code > unicode.MaxRune || rest[1] == 'x' && code > 0x7f {
		return 0, 0, l.at.errorf("escape %q is no character that may stand here", rest[:2+digits])
	}
	return rune(code), 2 + digits, nil
}
