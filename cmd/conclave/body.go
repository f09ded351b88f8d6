package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/conclave-secrets/conclave/client"
)

const bodyHelp = `Each FIELD is one of
  name=text         the text itself (name=\@text and name=\- for text that begins so)
  name=@FILE        the contents of a file, with the line end if it has one
  name=-            standard input
  name:=JSON        a JSON document: a number, an object, a list, true, false, null
  @FILE.json        a file with one JSON object, whose members become fields
  -                 one JSON object on standard input`

// A body is the fields of a request, each as JSON.
type body map[string]json.RawMessage

// parseBody parses arguments into a body. No error of it shows a value.
func (inv *invocation) parseBody(args []string) (body, error) {
	p := &fieldParser{stdin: inv.in, readFile: os.ReadFile, data: client.Data{}, asTheyAre: true}
	for _, arg := range args {
		if err := p.parse(arg); err != nil {
			return nil, err
		}
	}
	out := body{}
	for name, v := range p.data {
		switch v.Kind() {
		case client.KindBinary:
			return nil, usageError("Encode it, for example with base64.", "field %q holds bytes that are not UTF-8, which JSON cannot carry", name)
		case client.KindJSON:
			out[name] = v.Reveal()
		default:
			text := string(v.Reveal())
			if line, whole := strings.CutSuffix(text, "\n"); whole && !strings.Contains(line, "\n") {
				// A password from a file that an editor saved never matches the one
				// that is typed.
				fmt.Fprintf(inv.err, "warning: the line end belongs to the value of %q; printf %%s makes a file without one\n", name)
			}
			out[name] = jsonText(text)
		}
	}
	return out, nil
}

// jsonText spells text as JSON, without the escapes that only HTML needs: what is
// stored is what was written.
func jsonText(s string) json.RawMessage {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		panic(fmt.Sprintf("encoding a text as JSON: %v", err)) // no text fails
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// parseParameters parses arguments into what a request without a body carries.
func parseParameters(args []string) (map[string][]string, error) {
	var out map[string][]string
	for _, arg := range args {
		name, value, found := strings.Cut(arg, "=")
		if !found || name == "" {
			return nil, usageError("Write name=value.", "a parameter is not name=value")
		}
		if out == nil {
			out = map[string][]string{}
		}
		out[name] = append(out[name], value)
	}
	return out, nil
}
