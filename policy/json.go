package policy

import (
	"encoding/json"
	"errors"
	"strings"
)

func startsJSON(text string) bool {
	return strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{")
}

// A jsonReader walks the tokens of a text that is known to be valid JSON and
// keeps their places. (Decoding into maps would lose the places, the order, and
// keys that are there twice.)
type jsonReader struct {
	decoder *json.Decoder
	place   *lexer // only its place is used
	depth   int
}

func parseJSON(text string) (*body, error) {
	var whole json.RawMessage
	if err := json.Unmarshal([]byte(text), &whole); err != nil {
		return nil, jsonError(text, err)
	}
	r := &jsonReader{decoder: json.NewDecoder(strings.NewReader(text)), place: newLexer(text)}
	r.decoder.UseNumber()
	root, err := r.value()
	if err != nil {
		return nil, err
	}
	return root.body, nil
}

func jsonError(text string, err error) error {
	place := newLexer(text)
	var bad *json.SyntaxError
	if errors.As(err, &bad) {
		// Offset counts the bytes read, the offending one included, and may
		// fall inside a character.
		before := min(max(bad.Offset-1, 0), int64(len(text)))
		place.skip(len(strings.ToValidUTF8(text[:before], "")))
		return place.at.errorf("not valid JSON: %s", strings.TrimPrefix(bad.Error(), "json: "))
	}
	return place.at.errorf("not valid JSON: %v", err)
}

// token returns the next token and the place where it starts.
func (r *jsonReader) token() (json.Token, position, error) {
	between := r.place.rest()
	r.place.skip(len(between) - len(strings.TrimLeft(between, " \t\r\n,:")))
	at := r.place.at
	t, err := r.decoder.Token()
	if err != nil {
		return nil, at, at.errorf("not valid JSON: %v", err)
	}
	r.place.skip(int(r.decoder.InputOffset()) - r.place.offset)
	return t, at, nil
}

func (r *jsonReader) value() (*node, error) {
	t, at, err := r.token()
	if err != nil {
		return nil, err
	}
	n := &node{at: at}
	switch t := t.(type) {
	case string:
		n.kind, n.text = nodeString, t
	case json.Number:
		n.kind, n.text = nodeNumber, t.String()
	case bool:
		n.kind, n.text = nodeBool, "false"
		if t {
			n.text = "true"
		}
	case nil:
		n.kind, n.text = nodeNull, "null"
	case json.Delim:
		return n, r.nested(n, t)
	}
	return n, nil
}

// nested reads a list or an object, whose opening delimiter is consumed.
func (r *jsonReader) nested(n *node, opening json.Delim) error {
	if r.depth++; r.depth > MaxDepth {
		return n.at.errorf("more than %d brackets and braces are open here", MaxDepth)
	}
	defer func() { r.depth-- }()
	n.kind = nodeList
	if opening == '{' {
		n.kind, n.body = nodeObject, &body{}
	}
	for r.decoder.More() {
		it := &item{}
		if opening == '{' {
			key, at, err := r.token()
			if err != nil {
				return err
			}
			it.key, _ = key.(string) // the grammar has nothing else here
			it.at = at
		}
		value, err := r.value()
		if err != nil {
			return err
		}
		if it.value = value; opening == '{' {
			n.body.items = append(n.body.items, it)
		} else {
			n.list = append(n.list, &element{value: value})
		}
	}
	_, _, err := r.token()
	return err
}
