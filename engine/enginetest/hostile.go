package enginetest

import (
	"iter"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// startOfTime is the log time of the stores that TestMethods makes.
var startOfTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// canary is in every hostile text that is long enough to be told apart.
const canary = "canary-3f61"

var hostileTexts = []string{
	"", "/", ".", "..", "a//b", "\x00", "\xff\xfe", "\u2028", " ", "%s%n",
	canary, "/" + canary, canary + "/", canary + "//x", "../" + canary, canary + "/../x", canary + "/./x",
	canary + "\x00", canary + "\nlog line", "\xff" + canary, canary + "\ufffd", canary + "\u202e",
	canary + strings.Repeat("x", 1<<16), strings.Repeat(canary+"/", 2000) + "x", strings.Repeat("/", 3000),
}

// maxDepth bounds how deep hostileTo looks into messages within messages.
const maxDepth = 5

// hostileTo returns requests like m in which one thing is not as it should be:
// each text, number, list, map and message in it in turn.
func hostileTo(m proto.Message) iter.Seq[proto.Message] { return hostileBelow(m.ProtoReflect(), 0) }

func hostileBelow(m protoreflect.Message, depth int) iter.Seq[proto.Message] {
	return func(yield func(proto.Message) bool) {
		empty := m.New()
		if !m.IsValid() { // the absent value of a field
			m = empty
		}
		if !yield(empty.Interface()) || depth == maxDepth {
			return
		}
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			for change := range hostileChanges(m, fields.Get(i), depth) {
				c := proto.Clone(m.Interface())
				change(c.ProtoReflect())
				if !yield(c) {
					return
				}
			}
		}
	}
}

type change = func(protoreflect.Message)

// hostileChanges returns what can be done to the field fd of a message like m.
func hostileChanges(m protoreflect.Message, fd protoreflect.FieldDescriptor, depth int) iter.Seq[change] {
	return func(yield func(change) bool) {
		if !yield(func(c protoreflect.Message) { c.Clear(fd) }) {
			return
		}
		changes := hostileField
		switch {
		case fd.IsMap():
			changes = hostileMap
		case fd.IsList():
			changes = hostileList
		}
		for change := range changes(m, fd, depth) {
			if !yield(change) {
				return
			}
		}
	}
}

func hostileField(m protoreflect.Message, fd protoreflect.FieldDescriptor, depth int) iter.Seq[change] {
	return func(yield func(change) bool) {
		for v := range hostileValues(fd, m.Get(fd), depth) {
			if !yield(func(c protoreflect.Message) { c.Set(fd, v) }) {
				return
			}
		}
	}
}

// hostileList appends one odd element, or a great many.
func hostileList(m protoreflect.Message, fd protoreflect.FieldDescriptor, depth int) iter.Seq[change] {
	return func(yield func(change) bool) {
		element := m.Get(fd).List().NewElement
		for v := range hostileValues(fd, element(), depth) {
			if !yield(func(c protoreflect.Message) { c.Mutable(fd).List().Append(v) }) {
				return
			}
		}
		yield(func(c protoreflect.Message) {
			for range 5000 {
				c.Mutable(fd).List().Append(element())
			}
		})
	}
}

// hostileMap adds one odd key, one odd value, or a great many. The API has only
// maps whose keys are texts.
func hostileMap(m protoreflect.Message, fd protoreflect.FieldDescriptor, depth int) iter.Seq[change] {
	value := m.NewField(fd).Map().NewValue
	put := func(key string, v protoreflect.Value) change {
		return func(c protoreflect.Message) { c.Mutable(fd).Map().Set(protoreflect.ValueOfString(key).MapKey(), v) }
	}
	return func(yield func(change) bool) {
		for _, key := range hostileTexts {
			if !yield(put(key, value())) {
				return
			}
		}
		for v := range hostileValues(fd.MapValue(), value(), depth) {
			if !yield(put("key", v)) {
				return
			}
		}
		yield(func(c protoreflect.Message) {
			for i := range 2000 {
				put(strings.Repeat("k", i+1), value())(c)
			}
		})
	}
}

// hostileValues returns values of the kind of fd; for a message, ones like old.
func hostileValues(fd protoreflect.FieldDescriptor, old protoreflect.Value, depth int) iter.Seq[protoreflect.Value] {
	return func(yield func(protoreflect.Value) bool) {
		if fd.Kind() == protoreflect.MessageKind {
			for inner := range hostileBelow(old.Message(), depth+1) {
				if !yield(protoreflect.ValueOfMessage(inner.ProtoReflect())) {
					return
				}
			}
		}
		for _, v := range hostileScalars(fd.Kind()) {
			if !yield(v) {
				return
			}
		}
	}
}

// hostileScalars returns the edges of a kind, for the kinds that the API has.
func hostileScalars(kind protoreflect.Kind) (values []protoreflect.Value) {
	of := protoreflect.ValueOf
	switch kind {
	case protoreflect.StringKind:
		for _, s := range hostileTexts {
			values = append(values, of(s))
		}
	case protoreflect.BytesKind:
		return []protoreflect.Value{of([]byte{}), of(make([]byte, 2<<20))}
	case protoreflect.BoolKind:
		return []protoreflect.Value{of(true), of(false)}
	case protoreflect.Uint64Kind:
		return []protoreflect.Value{of(uint64(0)), of(uint64(1)), of(uint64(math.MaxUint64))}
	case protoreflect.Uint32Kind:
		return []protoreflect.Value{of(uint32(0)), of(uint32(1)), of(uint32(math.MaxUint32))}
	case protoreflect.Int64Kind:
		return []protoreflect.Value{of(int64(-1)), of(int64(math.MinInt64)), of(int64(math.MaxInt64))}
	case protoreflect.Int32Kind:
		return []protoreflect.Value{of(int32(-1)), of(int32(math.MinInt32)), of(int32(math.MaxInt32))}
	case protoreflect.EnumKind:
		return []protoreflect.Value{of(protoreflect.EnumNumber(-1)), of(protoreflect.EnumNumber(99))}
	}
	return values
}
