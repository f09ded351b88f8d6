package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// A Kind says how a Value is to be read.
type Kind int

// The kinds.
const (
	KindText   Kind = iota // UTF-8
	KindBinary             // any bytes
	KindJSON               // one JSON document
)

// A Value is one field of a secret. It prints, logs and marshals as redacted;
// Reveal is the only way to its bytes. Values are immutable.
type Value struct {
	kind  Kind
	bytes []byte
}

// Data is the fields of a secret.
type Data map[string]Value

// Text makes a value of UTF-8 text. The server refuses other bytes.
func Text(s string) Value { return Value{KindText, []byte(s)} }

// Binary makes a value of any bytes, which it copies.
func Binary(b []byte) Value { return Value{KindBinary, bytes.Clone(b)} }

// JSON makes a value of a JSON document, which it copies. The server refuses
// what is not JSON.
func JSON(doc json.RawMessage) Value { return Value{KindJSON, bytes.Clone(doc)} }

// IsZero reports whether this is the zero Value, which holds nothing.
func (v Value) IsZero() bool { return v.kind == KindText && v.bytes == nil }

// Kind says how to read the bytes.
func (v Value) Kind() Kind { return v.kind }

// Reveal returns a copy of the bytes: the text, the binary or the document.
// Whoever calls it must not log it.
func (v Value) Reveal() []byte { return bytes.Clone(v.bytes) }

// Format prints a redacted value for every verb.
func (v Value) Format(f fmt.State, _ rune) { printRedacted(f) }

// LogValue logs a redacted value.
func (v Value) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText marshals a redacted value.
func (v Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func (d Data) proto() map[string]*conclavev1.Field {
	out := make(map[string]*conclavev1.Field, len(d))
	for name, v := range d {
		switch v.kind {
		case KindBinary:
			out[name] = &conclavev1.Field{Kind: &conclavev1.Field_Binary{Binary: v.bytes}}
		case KindJSON:
			out[name] = &conclavev1.Field{Kind: &conclavev1.Field_Json{Json: string(v.bytes)}}
		default:
			out[name] = &conclavev1.Field{Kind: &conclavev1.Field_Text{Text: string(v.bytes)}}
		}
	}
	return out
}

func dataFromProto(fields map[string]*conclavev1.Field) Data {
	out := make(Data, len(fields))
	for name, f := range fields {
		switch kind := f.GetKind().(type) {
		case *conclavev1.Field_Binary:
			out[name] = Value{KindBinary, kind.Binary}
		case *conclavev1.Field_Json:
			out[name] = Value{KindJSON, []byte(kind.Json)}
		default:
			out[name] = Text(f.GetText())
		}
	}
	return out
}

// timeFromProto takes an absent time for the zero time.
func timeFromProto(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
