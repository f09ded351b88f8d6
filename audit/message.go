package audit

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const tooDeep = `"audit:too_deep"`

// walkers spares the one that a message needs on the heap, because reflection takes
// callbacks, and the buffer in it.
var walkers = sync.Pool{New: func() any { return new(walker) }}

// appendMessage appends the data's message.
func appendMessage(dst []byte, path string, d *Data, h Hasher) []byte {
	w := walkers.Get().(*walker)
	*w = walker{dst: dst, start: len(dst), hash: h, clear: d.Clear, omit: d.Omit, path: path, scratch: w.scratch}
	w.message(d.Message.ProtoReflect(), 0)
	dst = w.dst
	clear(w.scratch[:cap(w.scratch)])
	if cap(w.scratch) > maxClear {
		w.scratch = nil
	}
	*w = walker{scratch: w.scratch}
	walkers.Put(w)
	return dst
}

// message writes a protobuf message under the names of its fields. Texts and bytes
// are values, and hashed. Numbers, booleans, enumerations and times are in clear:
// unlike in JSON, where a value may be of any kind, a schema uses them for versions,
// limits and dates, which say what was asked for. Unknown fields are left out: no
// method sees them either.
func (w *walker) message(m protoreflect.Message, depth int) {
	switch known := m.Interface().(type) {
	case *timestamppb.Timestamp:
		w.dst = append(w.dst, '"')
		w.dst = known.AsTime().AppendFormat(w.dst, time.RFC3339Nano)
		w.dst = append(w.dst, '"')
		return
	case *durationpb.Duration:
		w.dst = appendText(w.dst, known.AsDuration().String(), maxWord)
		return
	}
	if depth >= maxDepth {
		w.dst = append(w.dst, tooDeep...)
		return
	}
	w.dst = append(w.dst, '{')
	fields, first := m.Descriptor().Fields(), true
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !m.Has(fd) || depth == 0 && slices.Contains(w.omit, string(fd.Name())) {
			continue
		}
		if !first {
			w.dst = append(w.dst, ',')
		}
		first = false
		if w.full() {
			w.more("fields")
			break
		}
		if depth == 0 {
			w.open = slices.Contains(w.clear, string(fd.Name()))
		}
		w.dst = append(appendText(w.dst, string(fd.Name()), maxKey), ':')
		w.messageField(fd, m.Get(fd), depth+1)
	}
	w.dst = append(w.dst, '}')
}

// more says that something was left out of an object.
func (w *walker) more(what string) {
	w.dst = append(w.dst, `"`+keyMore+`":`...)
	w.dst = appendText(w.dst, "more "+what, maxWord)
}

func (w *walker) messageField(fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) {
	switch {
	case fd.IsMap():
		w.messageMap(fd.MapValue(), v.Map(), depth)
	case fd.IsList():
		w.messageList(fd, v.List(), depth)
	default:
		w.messageValue(fd, v, depth)
	}
}

// messageMap writes a map's keys as names, in no order.
func (w *walker) messageMap(fd protoreflect.FieldDescriptor, entries protoreflect.Map, depth int) {
	w.dst = append(w.dst, '{')
	first := true
	entries.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		if !first {
			w.dst = append(w.dst, ',')
		}
		first = false
		if w.full() {
			w.more("entries")
			return false
		}
		w.dst = append(appendText(w.dst, k.String(), maxKey), ':')
		w.messageValue(fd, v, depth+1)
		return true
	})
	w.dst = append(w.dst, '}')
}

func (w *walker) messageList(fd protoreflect.FieldDescriptor, list protoreflect.List, depth int) {
	w.dst = append(w.dst, '[')
	for i := range list.Len() {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		if w.full() {
			w.dst = appendText(w.dst, "audit:"+strconv.Itoa(list.Len()-i)+" more", maxWord)
			break
		}
		w.messageValue(fd, list.Get(i), depth+1)
	}
	w.dst = append(w.dst, ']')
}

func (w *walker) messageValue(fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		w.message(v.Message(), depth)
	case protoreflect.StringKind:
		s := v.String()
		switch {
		case fd.Name() == "path" && strings.HasSuffix(w.path, s):
			w.dst = appendText(w.dst, s, maxPath) // the record shows it already
		case w.open:
			w.dst = appendText(w.dst, s, maxClear)
		default:
			w.scratch = append(w.scratch[:0], s...)
			w.hashed(w.scratch)
		}
	case protoreflect.BytesKind:
		w.hashed(v.Bytes())
	case protoreflect.BoolKind:
		w.dst = strconv.AppendBool(w.dst, v.Bool())
	case protoreflect.EnumKind:
		if named := fd.Enum().Values().ByNumber(v.Enum()); named != nil {
			w.dst = appendText(w.dst, string(named.Name()), maxWord)
			return
		}
		w.dst = strconv.AppendInt(w.dst, int64(v.Enum()), 10)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		w.dst = appendText(w.dst, v.String(), maxWord) // JSON has no NaN
	default:
		w.dst = append(w.dst, v.String()...)
	}
}
