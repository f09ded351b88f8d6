package kv

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// marshal encodes what is staged: a method that runs again stages the same bytes.
var marshal = proto.MarshalOptions{Deterministic: true}

// encode checks the fields of a secret and returns their durable form.
func (e *Engine) encode(data fields) ([]byte, error) {
	for name, f := range data {
		if name == "" {
			return nil, &engine.InvalidError{Why: "a field needs a name"}
		}
		switch kind := f.GetKind().(type) {
		case *conclavev1.Field_Text, *conclavev1.Field_Binary:
		case *conclavev1.Field_Json:
			if err := checkJSON([]byte(kind.Json)); err != nil {
				return nil, err
			}
		default:
			return nil, &engine.InvalidError{Why: "a field has no value"}
		}
	}
	value, err := marshal.Marshal(&storev1.SecretData{Data: data})
	if err != nil {
		return nil, &engine.InvalidError{Why: "the fields cannot be encoded"}
	}
	if len(value) > e.maxValue() {
		return nil, &engine.TooLargeError{What: "secret", Bytes: len(value), Limit: e.maxValue()}
	}
	return value, nil
}

func checkJSON(raw []byte) error {
	if !json.Valid(raw) {
		return &engine.InvalidError{Why: "a field given as JSON is not valid JSON"}
	}
	return engine.CheckJSON(raw)
}

// fieldsOf turns a JSON object into fields: a string into a text, anything else
// into JSON as it was written, so that numbers do not pass through a float.
func fieldsOf(o engine.Object) (fields, error) {
	if err := engine.CheckObject(o); err != nil {
		return nil, err
	}
	out := make(fields, len(o))
	for name, raw := range o {
		if raw[0] != '"' {
			out[name] = &conclavev1.Field{Kind: &conclavev1.Field_Json{Json: string(raw)}}
			continue
		}
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, &engine.InvalidError{Why: "a value is not valid JSON"}
		}
		out[name] = &conclavev1.Field{Kind: &conclavev1.Field_Text{Text: text}}
	}
	return out, nil
}

// objectOf is the way back from a version; binary fields, which only the typed
// methods write, become base64 text (RFC 4648, section 4).
func objectOf(v *engine.Version) (engine.Object, error) {
	data, err := open(v)
	if err != nil {
		return nil, err
	}
	out := make(engine.Object, len(data))
	for name, f := range data {
		raw, err := jsonOf(f)
		if err != nil {
			return nil, err
		}
		out[name] = raw
	}
	return out, nil
}

func jsonOf(f *conclavev1.Field) (json.RawMessage, error) {
	text := ""
	switch kind := f.GetKind().(type) {
	case *conclavev1.Field_Json:
		return bytes.TrimSpace([]byte(kind.Json)), nil
	case *conclavev1.Field_Text:
		text = kind.Text
	case *conclavev1.Field_Binary:
		text = base64.StdEncoding.EncodeToString(kind.Binary)
	default:
		return nil, fmt.Errorf("reading a secret: a field has a kind that this version does not know")
	}
	return spellText(text)
}

// spellText is text as JSON with <, > and & as they are: what is stored again
// after a patch does not grow, and readers see what was written.
func spellText(text string) (json.RawMessage, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		return nil, fmt.Errorf("spelling a text as JSON: it cannot be")
	}
	return bytes.TrimSpace(out.Bytes()), nil
}
