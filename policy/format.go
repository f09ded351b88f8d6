package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxListWidth is the line length up to which a list stays on one line.
const maxListWidth = 100

// Format returns a policy in canonical form: two spaces a level, one blank line
// between paths, '=' aligned in neighbouring lines, names of parameters quoted.
// Comments stay, beside or above what they stand at. JSON stays JSON. The text
// must be a policy that Parse accepts; the error is Parse's. The result parses to
// the same policy, and formatting it again changes nothing.
func Format(text string) (string, error) {
	root, isJSON, err := parseTree(text)
	if err != nil {
		return "", err
	}
	if _, err := readPolicy("", root, isJSON); err != nil {
		return "", err
	}
	if isJSON {
		var out bytes.Buffer
		if err := json.Indent(&out, []byte(strings.TrimSpace(text)), "", "  "); err != nil {
			return "", fmt.Errorf("indenting policy: %w", err)
		}
		return out.String() + "\n", nil
	}
	p := &printer{}
	p.body(root, 0)
	return p.out.String(), nil
}

// A printer writes a syntax tree as HCL.
type printer struct{ out strings.Builder }

func (p *printer) line(depth int, text string) {
	p.out.WriteString(strings.Repeat("  ", depth) + text + "\n")
}

// body prints what stands between braces.
func (p *printer) body(b *body, depth int) {
	width := 0
	for i, it := range b.items {
		if i > 0 && (it.gap || depth == 0 && (isBlock(it) || isBlock(b.items[i-1]))) {
			p.line(0, "")
		}
		p.comments(it.lead, depth)
		if it.keyGap {
			p.line(0, "")
		}
		if i == 0 || !aligns(b.items[i-1], it, depth) {
			width = alignment(b.items[i:], depth)
		}
		p.item(it, depth, width)
	}
	for i, c := range b.end {
		if c.gap && (i > 0 || len(b.items) > 0) {
			p.line(0, "")
		}
		p.line(depth, c.text)
	}
}

func (p *printer) comments(all []comment, depth int) {
	for i, c := range all {
		if c.gap && i > 0 {
			p.line(0, "")
		}
		p.line(depth, c.text)
	}
}

// isBlock tells a path from an attribute.
func isBlock(it *item) bool { return len(it.labels) > 0 }

// aligns tells whether two neighbours share the column of their '='.
func aligns(above, below *item, depth int) bool {
	return !isBlock(above) && !isBlock(below) && !below.gap && len(below.lead) == 0 &&
		singleLine(above, depth) && singleLine(below, depth)
}

// alignment is the widest key among the first items that align.
func alignment(items []*item, depth int) int {
	width := utf8.RuneCountInString(keyText(items[0], depth))
	for i := 1; i < len(items) && aligns(items[i-1], items[i], depth); i++ {
		width = max(width, utf8.RuneCountInString(keyText(items[i], depth)))
	}
	return width
}

// keyText is a key as it is printed: bare, but quoted where keys are names that
// the user chose.
func keyText(it *item, depth int) string {
	if depth <= 1 {
		return it.key
	}
	return quote(it.key)
}

func singleLine(it *item, depth int) bool {
	switch it.value.kind {
	case nodeObject:
		return len(it.value.body.items)+len(it.value.body.end) == 0
	case nodeList:
		text, ok := inline(it.value)
		indent := 2*depth + utf8.RuneCountInString(keyText(it, depth)) + len(" = ")
		return ok && indent+utf8.RuneCountInString(text) <= maxListWidth
	}
	return true
}

// inline spells a value on one line, if no comment stands in it.
func inline(n *node) (string, bool) {
	switch n.kind {
	case nodeString:
		return quote(n.text), true
	case nodeObject:
		return "{}", len(n.body.items)+len(n.body.end) == 0
	case nodeList:
		parts := make([]string, len(n.list))
		for i, e := range n.list {
			var ok bool
			if parts[i], ok = inline(e.value); !ok || len(e.lead)+len(e.trail) > 0 {
				return "", false
			}
		}
		return "[" + strings.Join(parts, ", ") + "]", len(n.end) == 0
	}
	return n.text, true
}

func (p *printer) item(it *item, depth, width int) {
	head := keyText(it, depth)
	if isBlock(it) {
		head += " " + quote(it.labels[0].text) + " "
	} else {
		if singleLine(it, depth) {
			head += strings.Repeat(" ", width-utf8.RuneCountInString(head))
		}
		head += " = "
	}
	p.out.WriteString(strings.Repeat("  ", depth) + head)
	p.value(it.value, depth, singleLine(it, depth))
	p.trail(it.trail)
}

// trail ends a line, with the comments that stand beside it: first those that
// have an end, since the others run to the end of the line.
func (p *printer) trail(comments []comment) {
	for _, bounded := range []bool{true, false} {
		for _, c := range comments {
			if strings.HasPrefix(c.text, "/*") == bounded {
				p.out.WriteString(" " + c.text)
			}
		}
	}
	p.out.WriteString("\n")
}

// value prints a value without the end of its last line.
func (p *printer) value(n *node, depth int, single bool) {
	if text, ok := inline(n); ok && single {
		p.out.WriteString(text)
		return
	}
	switch n.kind {
	case nodeObject:
		p.out.WriteString("{\n")
		p.body(n.body, depth+1)
		p.out.WriteString(strings.Repeat("  ", depth) + "}")
	case nodeList:
		p.out.WriteString("[\n")
		for _, e := range n.list {
			p.comments(e.lead, depth+1)
			p.out.WriteString(strings.Repeat("  ", depth+1))
			_, plain := inline(e.value)
			p.value(e.value, depth+1, plain)
			p.out.WriteString(",")
			p.trail(e.trail)
		}
		p.comments(n.end, depth+1)
		p.out.WriteString(strings.Repeat("  ", depth) + "]")
	}
}

// quote spells a string so that the lexer reads it back.
func quote(text string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			out.WriteString(`\` + string(r))
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\t':
			out.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
	return out.String()
}
