package audit

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A transcriber writes a protobuf message as JSON, under the names of its fields.
//
// Texts and bytes are values, and hashed. Numbers, booleans, enumerations and times
// are in clear: unlike in JSON, where a value may be of any kind, a schema uses them
// for versions, limits and dates, which say what was asked for. Fields without a
// value are left out, and so are unknown ones: no method sees them either.
//
// It reads the structs that protoc-gen-go makes. protoreflect, the front door, makes
// a value of each field and costs twice as much, in every request.
type transcriber struct {
	dst     []byte
	start   int
	hash    Hasher
	path    string // of the request, as the record shows it
	data    *Data
	open    bool // the field at the top level that is being written is exempt
	scratch []byte
}

var transcribers = sync.Pool{New: func() any { return new(transcriber) }}

// appendMessage appends the data's message.
func appendMessage(dst []byte, path string, d *Data, h Hasher) []byte {
	t := transcribers.Get().(*transcriber)
	*t = transcriber{dst: dst, start: len(dst), hash: h, path: path, data: d, scratch: t.scratch}
	t.message(reflect.ValueOf(d.Message), 0)
	dst = t.dst
	clear(t.scratch[:cap(t.scratch)]) // it held values
	if cap(t.scratch) > maxClear {
		t.scratch = nil
	}
	*t = transcriber{scratch: t.scratch}
	transcribers.Put(t)
	return dst
}

func (t *transcriber) full() bool { return len(t.dst)-t.start > maxData }

// shape is what is to be known of a message's struct.
type shape []shapeField

type shapeField struct {
	index int
	label string // the name as JSON, with its colon
	name  string
	oneof bool // an interface that holds a struct of one field
}

var shapes sync.Map // reflect.Type of a struct: shape

func shapeOf(t reflect.Type) shape {
	if known, ok := shapes.Load(t); ok {
		return known.(shape)
	}
	var s shape
	for i := range t.NumField() {
		f := t.Field(i)
		if _, ok := f.Tag.Lookup("protobuf_oneof"); ok {
			s = append(s, shapeField{index: i, oneof: true})
			continue
		}
		for part := range strings.SplitSeq(f.Tag.Get("protobuf"), ",") {
			if name, ok := strings.CutPrefix(part, "name="); ok {
				s = append(s, shapeField{index: i, name: name, label: `"` + name + `":`})
			}
		}
	}
	shapes.Store(t, s)
	return s
}

// message writes what a pointer to a message's struct points to.
func (t *transcriber) message(v reflect.Value, depth int) {
	switch known := v.Interface().(type) {
	case *timestamppb.Timestamp:
		t.dst = append(t.dst, '"')
		t.dst = known.AsTime().AppendFormat(t.dst, time.RFC3339Nano)
		t.dst = append(t.dst, '"')
		return
	case *durationpb.Duration:
		t.dst = appendText(t.dst, known.AsDuration().String(), maxWord)
		return
	}
	if v.IsNil() || depth >= maxDepth {
		t.dst = append(t.dst, "null"...)
		return
	}
	t.dst = append(t.dst, '{')
	t.fields(v.Elem(), depth, true)
	t.dst = append(t.dst, '}')
}

// fields writes the fields of a struct that have a value. first tells that nothing
// stands before them in their object.
func (t *transcriber) fields(v reflect.Value, depth int, first bool) bool {
	for _, f := range shapeOf(v.Type()) {
		field := v.Field(f.index)
		if f.oneof {
			if !field.IsNil() {
				first = t.fields(field.Elem().Elem(), depth, first)
			}
			continue
		}
		if absent(field) || depth == 0 && slices.Contains(t.data.Omit, f.name) {
			continue
		}
		if !first {
			t.dst = append(t.dst, ',')
		}
		first = false
		if t.full() {
			t.dst = append(t.dst, `"`+keyMore+`":true`...)
			return false
		}
		if depth == 0 {
			t.open = slices.Contains(t.data.Clear, f.name)
		}
		t.dst = append(t.dst, f.label...)
		t.value(field, f.name, depth+1)
	}
	return first
}

// absent tells whether a field has no value. That of a oneof may be zero and present,
// which shows nothing that the record would miss.
func absent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Slice, reflect.Map:
		return v.Len() == 0
	}
	return v.IsZero()
}

func (t *transcriber) value(v reflect.Value, name string, depth int) {
	switch v.Kind() {
	case reflect.String:
		t.text(v.String(), name)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			t.hashed(v.Bytes())
			return
		}
		t.list(v, depth)
	case reflect.Map:
		t.entries(v, depth)
	case reflect.Pointer:
		if v.Type().Elem().Kind() == reflect.Struct {
			t.message(v, depth)
			return
		}
		t.value(v.Elem(), name, depth)
	case reflect.Bool:
		t.dst = strconv.AppendBool(t.dst, v.Bool())
	case reflect.Int32, reflect.Int64:
		if enum, ok := v.Interface().(protoreflect.Enum); ok {
			t.enum(enum)
			return
		}
		t.dst = strconv.AppendInt(t.dst, v.Int(), 10)
	case reflect.Uint32, reflect.Uint64:
		t.dst = strconv.AppendUint(t.dst, v.Uint(), 10)
	default: // a float, which JSON may not have
		t.dst = append(t.dst, '"')
		t.dst = strconv.AppendFloat(t.dst, v.Float(), 'g', -1, 64)
		t.dst = append(t.dst, '"')
	}
}

func (t *transcriber) text(s, name string) {
	switch {
	case t.open:
		t.dst = appendText(t.dst, s, maxClear)
	case name == "path" && strings.HasSuffix(t.path, s):
		t.dst = appendText(t.dst, s, maxPath) // the record shows it already
	default:
		t.scratch = append(t.scratch[:0], s...)
		t.hashed(t.scratch)
	}
}

func (t *transcriber) hashed(value []byte) {
	t.dst = append(t.dst, '"')
	t.dst = appendHashed(t.dst, t.hash, value)
	t.dst = append(t.dst, '"')
}

func (t *transcriber) enum(e protoreflect.Enum) {
	if named := e.Descriptor().Values().ByNumber(e.Number()); named != nil {
		t.dst = appendText(t.dst, string(named.Name()), maxWord)
		return
	}
	t.dst = strconv.AppendInt(t.dst, int64(e.Number()), 10)
}

func (t *transcriber) list(v reflect.Value, depth int) {
	t.dst = append(t.dst, '[')
	for i := range v.Len() {
		if i > 0 {
			t.dst = append(t.dst, ',')
		}
		if t.full() {
			t.dst = append(t.dst, `"`+keyMore+`"`...)
			break
		}
		t.value(v.Index(i), "", depth+1)
	}
	t.dst = append(t.dst, ']')
}

// entries writes a map under its keys, in no order.
func (t *transcriber) entries(v reflect.Value, depth int) {
	t.dst = append(t.dst, '{')
	first := true
	for each := v.MapRange(); each.Next(); first = false {
		if !first {
			t.dst = append(t.dst, ',')
		}
		if t.full() {
			t.dst = append(t.dst, `"`+keyMore+`":true`...)
			break
		}
		if key := each.Key(); key.Kind() == reflect.String {
			t.dst = appendText(t.dst, key.String(), maxKey)
		} else {
			t.dst = append(t.dst, '"')
			t.value(key, "", depth)
			t.dst = append(t.dst, '"')
		}
		t.dst = append(t.dst, ':')
		t.value(each.Value(), "", depth+1)
	}
	t.dst = append(t.dst, '}')
}
