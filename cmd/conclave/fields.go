package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/conclave-secrets/conclave/client"
)

const fieldsHelp = `Each FIELD is one of
  name=text         the text itself (name=\@text and name=\- for text that begins so)
  name=@FILE        the contents of a file
  name=-            standard input
  name:=JSON        a JSON document: a number, an object, a list, true, false, null
  @FILE.json        a file with one JSON object, whose members become fields;
                    {"$binary": "base64"} stands for bytes
Values that are not UTF-8 are stored as binary.`

// binaryMember is the name under which JSON shows and takes binary values.
const binaryMember = "$binary"

// A fieldParser turns arguments into the fields of a secret. No error of it
// shows a value.
type fieldParser struct {
	stdin    io.Reader
	readFile func(string) ([]byte, error)
	// asTheyAre has the members of documents stay JSON, whatever they are, and
	// takes a document on standard input.
	asTheyAre bool

	data      client.Data
	stdinUsed bool
}

// parseFields parses all the arguments of one command.
func parseFields(args []string, stdin io.Reader) (client.Data, error) {
	p := &fieldParser{stdin: stdin, readFile: os.ReadFile, data: client.Data{}}
	for _, arg := range args {
		if err := p.parse(arg); err != nil {
			return nil, err
		}
	}
	return p.data, nil
}

func (p *fieldParser) parse(arg string) error {
	if file, isDocument := strings.CutPrefix(arg, "@"); isDocument {
		return p.document(file)
	}
	if arg == "-" && p.asTheyAre {
		text, err := p.readStdin("the fields")
		if err != nil {
			return err
		}
		return p.members("standard input", text)
	}
	name, text, found := strings.Cut(arg, "=")
	if !found {
		return usageError("Write name=text, name=@FILE or name=-.", "a field has no '='")
	}
	name, isJSON := strings.CutSuffix(name, ":")
	if name == "" {
		return usageError("Write name=text, name=@FILE or name=-.", "a field has no name before '='")
	}
	value, err := p.value(name, text)
	if err != nil {
		return err
	}
	if isJSON {
		if !json.Valid(value) {
			return usageError("Write name=text for text.", "field %q: what follows ':=' is not JSON", name)
		}
		return p.set(name, client.JSON(value))
	}
	return p.set(name, textOrBinary(value))
}

func (p *fieldParser) value(name, text string) ([]byte, error) {
	switch {
	case text == "-":
		return p.readStdin(fmt.Sprintf("field %q", name))
	case strings.HasPrefix(text, "@"):
		value, err := p.readFile(text[1:])
		if err != nil {
			return nil, usageError(`For text that begins with @ write name=\@text.`, "field %q: %w", name, err)
		}
		return value, nil
	case strings.HasPrefix(text, `\@`), text == `\-`:
		text = text[1:]
	}
	return []byte(text), nil
}

func (p *fieldParser) readStdin(what string) ([]byte, error) {
	if p.stdinUsed {
		return nil, usageError("", "%s: standard input can be read only once", what)
	}
	p.stdinUsed = true
	text, err := io.ReadAll(p.stdin)
	if err != nil {
		return nil, usageError("", "%s: reading standard input: %w", what, err)
	}
	return text, nil
}

func (p *fieldParser) set(name string, value client.Value) error {
	if _, twice := p.data[name]; twice {
		return usageError("", "field %q is given twice", name)
	}
	p.data[name] = value
	return nil
}

// document takes the members of a JSON object as fields.
func (p *fieldParser) document(file string) error {
	text, err := p.readFile(file)
	if err != nil {
		return usageError("", "reading fields: %w", err)
	}
	return p.members(file, text)
}

func (p *fieldParser) members(file string, text []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil || members == nil {
		return usageError("For a file as one value write name=@FILE.", "%s does not hold a JSON object", file)
	}
	for name, raw := range members {
		value, err := client.JSON(raw), error(nil)
		if !p.asTheyAre {
			value, err = valueFromJSON(raw)
		}
		if err != nil {
			return usageError("", "%s: field %q: %w", file, name, err)
		}
		if err := p.set(name, value); err != nil {
			return err
		}
	}
	return nil
}

var errNotBase64 = errors.New(binaryMember + " does not hold base64 text")

func valueFromJSON(raw json.RawMessage) (client.Value, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil && !bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return client.Text(text), nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) == nil && len(object) == 1 && object[binaryMember] != nil {
		var encoded string
		if err := json.Unmarshal(object[binaryMember], &encoded); err != nil {
			return client.Value{}, errNotBase64
		}
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return client.Value{}, errNotBase64
		}
		return client.Binary(decoded), nil
	}
	return client.JSON(raw), nil
}

func textOrBinary(b []byte) client.Value {
	if utf8.Valid(b) {
		return client.Text(string(b))
	}
	return client.Binary(b)
}

// dataView shows fields in JSON and YAML, in the form that @FILE.json takes.
func dataView(d client.Data) map[string]any {
	out := make(map[string]any, len(d))
	for name, v := range d {
		switch v.Kind() {
		case client.KindBinary:
			out[name] = map[string]string{binaryMember: base64.StdEncoding.EncodeToString(v.Reveal())}
		case client.KindJSON:
			out[name] = json.RawMessage(v.Reveal())
		default:
			out[name] = string(v.Reveal())
		}
	}
	return out
}

// fieldCell shows one value in a table.
func fieldCell(v client.Value) string {
	switch v.Kind() {
	case client.KindBinary:
		return base64.StdEncoding.EncodeToString(v.Reveal()) + "  (binary, shown as base64)"
	case client.KindJSON:
		return string(v.Reveal()) + "  (JSON)"
	default:
		return printable(string(v.Reveal()))
	}
}

// printable quotes text whose control characters would spoil a table or play
// tricks on a terminal.
func printable(s string) string {
	for _, r := range s {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return fmt.Sprintf("%q", s)
		}
	}
	return s
}
