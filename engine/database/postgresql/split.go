package postgresql

import (
	"errors"
	"regexp"
	"strings"
)

var (
	errUnclosed = errors.New("a quote, a comment or a dollar-quoted text is not closed")
	dollarTag   = regexp.MustCompile(`^\$([A-Za-z_][A-Za-z_0-9]*)?\$`)
)

// split cuts text at the semicolons between its statements: not at those in quotes,
// comments and bodies between dollars. Empty statements are left out.
func split(text string) (statements []string, err error) {
	begin := 0
	cut := func(end int) {
		if s := strings.TrimSpace(text[begin:end]); s != "" {
			statements = append(statements, s)
		}
		begin = end + 1
	}
	for i := 0; i < len(text); {
		if text[i] == ';' {
			cut(i)
			i++
			continue
		}
		n := token(text, i)
		if n < 0 {
			return nil, errUnclosed
		}
		i += n
	}
	cut(len(text))
	return statements, nil
}

// token is the length of what begins at i and cannot be cut: a quoted text, a comment, or
// one byte; -1: it does not end.
func token(text string, i int) int {
	rest := text[i:]
	switch {
	case rest[0] == '\'' && i > 0 && (text[i-1] == 'E' || text[i-1] == 'e') && (i == 1 || !nameByte(text[i-2])):
		return quoted(rest, '\'', true)
	case rest[0] == '\'' || rest[0] == '"':
		return quoted(rest, rest[0], false)
	case strings.HasPrefix(rest, "--"):
		if n := strings.IndexByte(rest, '\n'); n >= 0 {
			return n
		}
		return len(rest)
	case strings.HasPrefix(rest, "/*"):
		return comment(rest)
	case rest[0] == '$' && (i == 0 || !nameByte(text[i-1])):
		if tag := dollarTag.FindString(rest); tag != "" {
			n := strings.Index(rest[len(tag):], tag)
			if n < 0 {
				return -1
			}
			return n + 2*len(tag)
		}
	}
	return 1
}

// nameByte tells whether a byte may be part of a name, after which $ and ' are no opening.
func nameByte(c byte) bool {
	return c == '_' || c == '$' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// quoted is the length of a text in quotes. A doubled quote ends it and begins the next.
func quoted(s string, quote byte, escapes bool) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && escapes:
			i++
		case s[i] == quote:
			return i + 1
		}
	}
	return -1
}

// comment is the length of a comment, which may have others in it.
func comment(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}
