package policy

import "unicode/utf8"

type nodeKind uint8

const (
	nodeString nodeKind = iota
	nodeNumber
	nodeBool
	nodeNull // JSON only
	nodeList
	nodeObject
)

func (k nodeKind) String() string {
	return [...]string{"a string", "a number", "a bool", "null", "a list", "an object"}[k]
}

// A node is a value as it was written, in HCL or JSON.
type node struct {
	kind nodeKind
	text string // of a string its meaning, else its spelling
	at   position
	list []*element
	body *body // of an object
	end  []comment
}

type element struct {
	value       *node
	lead, trail []comment
}

// A body is what stands between braces, or the whole policy.
type body struct {
	items []*item
	end   []comment // before the closing brace
}

// An item is `key = value`, `key "label" {…}` or, in JSON, `"key": value`.
type item struct {
	key         string
	at          position
	labels      []label
	value       *node
	lead, trail []comment
	gap         bool // a blank line before the item, its comments included
	keyGap      bool // a blank line between its comments and the key
}

type label struct {
	text string
	at   position
}

// parseTree reads a policy's text. A policy that opens with a brace is JSON.
func parseTree(text string) (root *body, isJSON bool, err error) {
	if len(text) > MaxText {
		return nil, false, position{1, 1}.errorf("the policy has %d bytes; at most %d are allowed", len(text), MaxText)
	}
	if !utf8.ValidString(text) {
		return nil, false, invalidAt(text).errorf("the policy is not UTF-8 text")
	}
	if startsJSON(text) {
		root, err = parseJSON(text)
		return root, true, err
	}
	root, err = parseHCL(text)
	return root, false, err
}

// invalidAt finds the first byte that is not UTF-8.
func invalidAt(text string) position {
	at := position{1, 1}
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && size == 1 {
			break
		}
		at.column++
		if r == '\n' {
			at = position{at.line + 1, 1}
		}
		text = text[size:]
	}
	return at
}

// A parser reads the grammar of the first HCL, which is what Vault reads: an
// object's items may stand on one line, commas between them are optional, and
// keys may be quoted.
type parser struct {
	lex   *lexer
	tok   token
	depth int
	stray []comment // found within an item, printed before it
}

func parseHCL(text string) (*body, error) {
	p := &parser{lex: newLexer(text)}
	if err := p.load(); err != nil {
		return nil, err
	}
	return p.body(tokenEnd, position{1, 1})
}

func (p *parser) load() (err error) {
	p.tok, err = p.lex.next()
	return err
}

// next consumes the token at hand.
func (p *parser) next() (token, error) {
	t := p.tok
	return t, p.load()
}

// take hands out the comments before the token at hand.
func (p *parser) take() []comment {
	lead := p.tok.lead
	p.tok.lead = nil
	return lead
}

// beside hands out those of them that begin on the line where something ended.
func (p *parser) beside(line int) []comment {
	n := 0
	for n < len(p.tok.lead) && p.tok.lead[n].at.line == line {
		line = p.tok.lead[n].endLine
		n++
	}
	trail := p.tok.lead[:n:n]
	p.tok.lead = p.tok.lead[n:]
	return trail
}

// body reads items up to the closing token, which it leaves.
func (p *parser) body(closing tokenKind, opened position) (*body, error) {
	b := &body{}
	for p.tok.kind != closing {
		if p.tok.kind == tokenEnd {
			return nil, opened.errorf("this brace is never closed")
		}
		it, err := p.item()
		if err != nil {
			return nil, err
		}
		b.items = append(b.items, it)
	}
	b.end = p.take()
	return b, nil
}

func (p *parser) item() (*item, error) {
	outer := p.stray
	p.stray = nil
	defer func() { p.stray = outer }()

	it := &item{lead: p.take(), at: p.tok.at, gap: p.tok.gap}
	if len(it.lead) > 0 {
		it.gap, it.keyGap = it.lead[0].gap, p.tok.gap
	}
	if err := p.keys(it); err != nil {
		return nil, err
	}
	endLine, err := p.assigned(it)
	if err != nil {
		return nil, err
	}
	it.trail = p.beside(endLine)
	if p.tok.kind == tokenComma {
		p.stray = append(p.stray, p.take()...)
		comma, err := p.next()
		if err != nil {
			return nil, err
		}
		it.trail = append(it.trail, p.beside(comma.endLine)...)
	}
	it.lead = append(it.lead, p.stray...)
	return it, nil
}

// keys reads the key and the labels of an item.
func (p *parser) keys(it *item) error {
	for n := 0; p.tok.kind == tokenIdent || p.tok.kind == tokenString; n++ {
		p.stray = append(p.stray, p.take()...)
		t, err := p.next()
		if err != nil {
			return err
		}
		if n == 0 {
			it.key = t.text
		} else {
			it.labels = append(it.labels, label{t.text, t.at})
		}
		if n == 0 && t.kind == tokenIdent && (t.text == "true" || t.text == "false") {
			return t.at.errorf("expected a key, found '%s'", t.text)
		}
	}
	p.stray = append(p.stray, p.take()...)
	switch {
	case p.tok.at == it.at:
		return it.at.errorf("expected a key, found %s", p.tok.describe())
	case p.tok.kind == tokenAssign && len(it.labels) > 0:
		return p.tok.at.errorf("expected '{' after %q, found '='", it.labels[len(it.labels)-1].text)
	case p.tok.kind != tokenAssign && p.tok.kind != tokenOpenBrace:
		return p.tok.at.errorf("expected '=' or '{' after %q, found %s", it.key, p.tok.describe())
	}
	return nil
}

// assigned reads an item's value and returns the line on which it ends.
func (p *parser) assigned(it *item) (endLine int, err error) {
	if p.tok.kind == tokenAssign {
		if _, err := p.next(); err != nil {
			return 0, err
		}
		p.stray = append(p.stray, p.take()...)
	}
	it.value, endLine, err = p.value()
	return endLine, err
}

func (p *parser) value() (*node, int, error) {
	t, err := p.next()
	if err != nil {
		return nil, 0, err
	}
	n := &node{text: t.text, at: t.at}
	switch t.kind {
	case tokenString:
		n.kind = nodeString
	case tokenNumber:
		n.kind = nodeNumber
	case tokenIdent:
		if t.text != "true" && t.text != "false" {
			return nil, 0, t.at.errorf("expected a value, found '%s'; strings stand in double quotes", t.text)
		}
		n.kind = nodeBool
	case tokenOpenBracket, tokenOpenBrace:
		return p.nested(n, t.kind)
	default:
		return nil, 0, t.at.errorf("expected a value, found %s", t.describe())
	}
	return n, t.endLine, nil
}

// nested reads a list or an object, whose opening token is consumed.
func (p *parser) nested(n *node, opening tokenKind) (_ *node, endLine int, err error) {
	if p.depth++; p.depth > MaxDepth {
		return nil, 0, n.at.errorf("more than %d brackets and braces are open here", MaxDepth)
	}
	defer func() { p.depth-- }()
	if opening == tokenOpenBracket {
		n.kind = nodeList
		err = p.elements(n)
	} else {
		n.kind = nodeObject
		n.body, err = p.body(tokenCloseBrace, n.at)
	}
	if err != nil {
		return nil, 0, err
	}
	closing, err := p.next()
	return n, closing.endLine, err
}

// elements reads a list up to its closing bracket, which it leaves.
func (p *parser) elements(n *node) error {
	for p.tok.kind != tokenCloseBracket {
		if p.tok.kind == tokenEnd {
			return n.at.errorf("this bracket is never closed")
		}
		e := &element{lead: p.take()}
		value, endLine, err := p.value()
		if err != nil {
			return err
		}
		e.value, e.trail = value, p.beside(endLine)
		n.list = append(n.list, e)
		switch p.tok.kind {
		case tokenComma:
			e.trail = append(e.trail, p.take()...)
			comma, err := p.next()
			if err != nil {
				return err
			}
			e.trail = append(e.trail, p.beside(comma.endLine)...)
		case tokenCloseBracket, tokenEnd:
		default:
			return p.tok.at.errorf("expected ',' or ']', found %s", p.tok.describe())
		}
	}
	n.end = p.take()
	return nil
}
