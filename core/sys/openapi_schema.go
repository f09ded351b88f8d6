package sys

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
)

// A schema describes a JSON value, in OpenAPI's words. The zero value is any value.
type schema struct {
	Ref                  string             `json:"$ref,omitempty"`
	Type                 string             `json:"type,omitempty"`
	Format               string             `json:"format,omitempty"`
	Description          string             `json:"description,omitempty"`
	Nullable             bool               `json:"nullable,omitempty"`
	Default              string             `json:"default,omitempty"`
	Enum                 []string           `json:"enum,omitempty"`
	Items                *schema            `json:"items,omitempty"`
	Properties           map[string]*schema `json:"properties,omitempty"`
	AdditionalProperties *schema            `json:"additionalProperties,omitempty"`
	AllOf                []*schema          `json:"allOf,omitempty"`
}

// with returns s with a description. Beside a reference there is room for none.
func (s *schema) with(doc string) *schema {
	switch {
	case doc == "":
		return s
	case s.Ref != "":
		return &schema{AllOf: []*schema{s}, Description: doc}
	}
	c := *s
	if c.Description != "" {
		doc += "; " + c.Description
	}
	c.Description = doc
	return &c
}

// direction tells requests from answers: what is lenient to read prints in one way.
type direction bool

const (
	asked    direction = true
	answered direction = false
)

// schemas makes the schemas of Go types. Structs of answers get names, so that a
// document has each once, and one that contains itself ends.
type schemas struct {
	named  map[string]*schema
	byType map[reflect.Type]string
}

func newSchemas() *schemas {
	return &schemas{named: map[string]*schema{}, byType: map[reflect.Type]string{}}
}

const refPrefix = "#/components/schemas/"

// data is the schema of an answer's data; nil if it has none.
func (s *schemas) data(t reflect.Type) *schema {
	switch t {
	case nil, reflect.TypeFor[core.Auth](), reflect.TypeFor[core.Reply](): // they become other parts of the envelope
		return nil
	}
	if t.Kind() == reflect.Struct && t.NumField() == 0 {
		return nil
	}
	return s.of(t, answered)
}

var (
	marshaler = reflect.TypeFor[json.Marshaler]()
	message   = reflect.TypeFor[proto.Message]()
)

// lenient are the types of engine that take more than one form.
func lenient(t reflect.Type, d direction) *schema {
	switch t {
	case reflect.TypeFor[engine.Duration]():
		if d == asked {
			return &schema{Type: "string", Format: "duration", Description: "seconds, or a duration such as 90s, 1h30m or 2d"}
		}
		return &schema{Type: "integer", Format: "int64", Description: "seconds"}
	case reflect.TypeFor[engine.Bool]():
		return &schema{Type: "boolean"}
	case reflect.TypeFor[engine.Int]():
		return &schema{Type: "integer", Format: "int64"}
	case reflect.TypeFor[engine.Text]():
		return &schema{Type: "string"}
	case reflect.TypeFor[engine.Strings]():
		return &schema{Type: "array", Items: &schema{Type: "string"}}
	case reflect.TypeFor[engine.Ints]():
		return &schema{Type: "array", Items: &schema{Type: "integer", Format: "int64"}}
	case reflect.TypeFor[engine.Map]():
		return &schema{Type: "object", AdditionalProperties: &schema{Type: "string"}}
	case reflect.TypeFor[engine.Object]():
		return &schema{Type: "object", AdditionalProperties: &schema{}}
	case reflect.TypeFor[json.RawMessage]():
		return &schema{}
	case reflect.TypeFor[time.Time]():
		return &schema{Type: "string", Format: "date-time"}
	}
	return nil
}

// of is the schema of a type.
func (s *schemas) of(t reflect.Type, d direction) *schema {
	if out := lenient(t, d); out != nil {
		return out
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return s.nullable(s.of(t.Elem(), d), d)
	case t.Implements(message) || reflect.PointerTo(t).Implements(message):
		return &schema{Type: "object"}
	case t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler):
		return &schema{} // it prints as it likes
	}
	switch t.Kind() {
	case reflect.String:
		return &schema{Type: "string"}
	case reflect.Bool:
		return &schema{Type: "boolean"}
	case reflect.Float32, reflect.Float64:
		return &schema{Type: "number"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &schema{Type: "integer", Format: "int64"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return &schema{Type: "string", Format: "byte"}
		}
		return &schema{Type: "array", Items: s.of(t.Elem(), d)}
	case reflect.Map:
		return &schema{Type: "object", AdditionalProperties: s.of(t.Elem(), d)}
	case reflect.Struct:
		return s.structure(t, d)
	}
	return &schema{}
}

// nullable is a value that an answer may have as null; a request leaves it out.
func (s *schemas) nullable(v *schema, d direction) *schema {
	switch {
	case d == asked:
		return v
	case v.Ref != "":
		return &schema{AllOf: []*schema{v}, Nullable: true}
	case v.Type == "":
		return v
	}
	c := *v
	c.Nullable = true
	return &c
}

// structure is the schema of a struct: by name where it has one, in answers.
func (s *schemas) structure(t reflect.Type, d direction) *schema {
	if d == asked || t.Name() == "" {
		out := &schema{Type: "object", Properties: map[string]*schema{}}
		s.fields(t, d, out)
		return out
	}
	if name, ok := s.byType[t]; ok {
		return &schema{Ref: refPrefix + name}
	}
	out := &schema{Type: "object", Properties: map[string]*schema{}}
	name := s.name(t.PkgPath(), t.Name())
	s.byType[t], s.named[name] = name, out
	s.fields(t, d, out)
	return &schema{Ref: refPrefix + name}
}

// fields adds the fields of a struct, as encoding/json has them.
func (s *schemas) fields(t reflect.Type, d direction, out *schema) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported() && !f.Anonymous:
			continue
		case f.Anonymous && name == "":
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct {
				s.fields(inner, d, out)
				continue
			}
		}
		if name == "" {
			name = f.Name
		}
		if _, outer := out.Properties[name]; !outer {
			out.Properties[name] = s.of(f.Type, d).with(f.Tag.Get("doc"))
		}
	}
}

// name makes a name for a type: its package's and its own.
func (s *schemas) name(pkg, own string) string {
	var out strings.Builder
	upper := true
	for _, r := range pkg[strings.LastIndexByte(pkg, '/')+1:] + "." + own {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			upper = true
			continue
		case upper:
			r = unicode.ToUpper(r)
		}
		upper = false
		out.WriteRune(r)
	}
	name := out.String()
	for n := 2; s.named[name] != nil; n++ {
		name = out.String() + strconv.Itoa(n)
	}
	return name
}

// envelope refers to what nearly every answer comes in.
func (s *schemas) envelope() string {
	const name = "Envelope"
	if s.named[name] == nil {
		text, whole, truth := &schema{Type: "string"}, &schema{Type: "integer", Format: "int64"}, &schema{Type: "boolean"}
		object := &schema{Type: "object", Nullable: true}
		s.named[name] = &schema{Type: "object", Properties: map[string]*schema{
			"request_id": text.with("names the request in the audit log"), "lease_id": text, "renewable": truth,
			"lease_duration": whole.with("seconds"), "data": object, "wrap_info": object.with("where the answer is wrapped"),
			"auth":       object.with("the token of a login or a renewal"),
			"warnings":   {Type: "array", Nullable: true, Items: text},
			"mount_type": text,
		}}
	}
	return refPrefix + name
}

// errors refers to the body of a refusal.
func (s *schemas) errors() string {
	const name = "Errors"
	if s.named[name] == nil {
		s.named[name] = &schema{Type: "object", Properties: map[string]*schema{"errors": {Type: "array", Items: &schema{Type: "string"}}}}
	}
	return refPrefix + name
}
