package policy

import (
	"cmp"
	"math"
	"strconv"
	"strings"
)

// A pattern is the path of a rule: exact, or with a `+` for whole segments, or
// with a `*` at its end for whatever follows, or both.
type pattern struct {
	text string // as in the policy, without a leading slash
	glob bool   // ends in *

	// pieces are the stretches between the + segments, without the final *.
	// A pattern without + has one.
	pieces []string
}

// parsePattern reads a pattern whose templates, if any, are filled.
func parsePattern(text string) pattern {
	text = strings.TrimPrefix(text, "/")
	body, glob := strings.CutSuffix(text, "*")
	p := pattern{text: text, glob: glob}
	start, at := 0, 0
	for segment := range strings.SplitSeq(body, "/") {
		if segment == "+" {
			p.pieces = append(p.pieces, body[start:at])
			start = at + 1
		}
		at += len(segment) + 1
	}
	p.pieces = append(p.pieces, body[start:])
	return p
}

// valueMark stands for a value in a pattern that is being filled. No pattern
// that was parsed contains it.
const valueMark = "\x00"

// withValues puts the values where the marks are. They stand for themselves
// whatever they are made of, because the wildcards are already found.
func (p pattern) withValues(values []string) pattern {
	put := func(text string, values []string) (string, []string) {
		var filled strings.Builder
		for {
			before, after, found := strings.Cut(text, valueMark)
			filled.WriteString(before)
			if !found {
				return filled.String(), values
			}
			filled.WriteString(values[0])
			text, values = after, values[1:]
		}
	}
	q := pattern{glob: p.glob}
	q.text, _ = put(p.text, values)
	for _, piece := range p.pieces {
		piece, values = put(piece, values)
		q.pieces = append(q.pieces, piece)
	}
	return q
}

// key is equal for two patterns that match the same paths and only for those.
// Quoting keeps what a value is made of apart from what stands between pieces.
func (p pattern) key() string {
	var key strings.Builder
	for _, piece := range p.pieces {
		key.WriteString(strconv.Quote(piece))
		key.WriteByte('+')
	}
	if p.glob {
		key.WriteByte('*')
	}
	return key.String()
}

// problem names what is refused in a pattern, or is empty.
func (p pattern) problem() string {
	switch {
	case len(p.text) > MaxPattern:
		return "the pattern is too long"
	case strings.Contains(p.text, "+*"):
		return "a pattern must not contain \"+*\": + is a whole segment"
	case strings.ContainsFunc(p.text, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "a pattern must not contain control characters"
	}
	return ""
}

// doubts names what is valid in a pattern but seldom meant.
func (p pattern) doubts() string {
	body := strings.TrimSuffix(p.text, "*")
	switch {
	case strings.Contains(body, "*"):
		return "a * is a wildcard only at the very end of a pattern; elsewhere it stands for itself (+ matches one whole segment)"
	case strings.Contains(body, "//"), strings.HasPrefix(body, "/"):
		return "no request has an empty segment in its path, so this rule matches nothing"
	}
	for segment := range strings.SplitSeq(body, "/") {
		if segment != "+" && strings.Contains(segment, "+") {
			return "a + is a wildcard only as a whole segment; within one it stands for itself"
		}
	}
	return ""
}

// plus counts the wildcard segments.
func (p pattern) plus() int { return len(p.pieces) - 1 }

// exact tells whether the pattern has no wildcard.
func (p pattern) exact() bool { return !p.glob && p.plus() == 0 }

// matches decides one pattern alone, in time linear in the path. A + matches an
// empty segment too, as in Vault.
func (p pattern) matches(path string) bool {
	rest, ok := strings.CutPrefix(path, p.pieces[0])
	for _, piece := range p.pieces[1:] {
		if !ok {
			return false
		}
		rest, ok = strings.CutPrefix(afterSegment(rest), piece)
	}
	return ok && (p.glob || rest == "")
}

// afterSegment returns what follows the segment at the start of a path, from its
// slash on.
func afterSegment(path string) string {
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[i:]
	}
	return ""
}

// firstWildcard is the position of the first + or *.
func (p pattern) firstWildcard() int {
	if p.exact() {
		return math.MaxInt
	}
	return len(p.pieces[0])
}

// precedence orders two patterns that match one path: positive if p decides.
// These are the five rules of Vault's documentation, in their order; two
// patterns are equal only if they are the same.
func (p pattern) precedence(q pattern) int {
	return cmp.Or(
		cmp.Compare(p.firstWildcard(), q.firstWildcard()), // the first wildcard comes later
		compareBool(q.glob, p.glob),                       // no * at the end
		cmp.Compare(q.plus(), p.plus()),                   // fewer +
		cmp.Compare(len(p.text), len(q.text)),             // longer
		cmp.Compare(p.text, q.text),                       // greater in byte order
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// reachesInto tells whether the pattern names something in the directory, which
// ends in a slash: it goes at least as deep, and agrees on the way.
func (p pattern) reachesInto(directory string) bool {
	body := strings.TrimSuffix(p.text, "*")
	for directory != "" {
		var asked string
		asked, directory, _ = strings.Cut(directory, "/")
		segment, rest, deeper := strings.Cut(body, "/")
		if !deeper || segment != "+" && segment != asked {
			return false
		}
		body = rest
	}
	return true
}
