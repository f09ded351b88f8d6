package client

import (
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A textError says which text of a request is not UTF-8. Such a request cannot
// be encoded, so no node has ever seen it, although gRPC reports that like a
// failure on the way.
type textError struct{ field string }

func (e *textError) Error() string { return e.field + " is not valid UTF-8" }

// unsendable returns what keeps a request from being encoded, or nil. It is
// asked after a call has failed, so that a good request pays nothing.
func unsendable(request any) *textError {
	m, ok := request.(proto.Message)
	if !ok {
		return nil
	}
	return badText(m.ProtoReflect())
}

// badText looks for a text that is not UTF-8 in a message and all it holds.
func badText(m protoreflect.Message) (found *textError) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				if f.MapKey().Kind() == protoreflect.StringKind && !utf8.ValidString(key.String()) {
					found = &textError{"a name in " + f.TextName()}
				} else {
					found = badValue(f.MapValue(), value, "a value in "+f.TextName())
				}
				return found == nil
			})
		case f.IsList():
			for i := 0; i < v.List().Len() && found == nil; i++ {
				found = badValue(f, v.List().Get(i), f.TextName())
			}
		default:
			found = badValue(f, v, f.TextName())
		}
		return found == nil
	})
	return found
}

func badValue(f protoreflect.FieldDescriptor, v protoreflect.Value, name string) *textError {
	switch {
	case f.Kind() == protoreflect.StringKind && !utf8.ValidString(v.String()):
		return &textError{name}
	case f.Message() != nil:
		return badText(v.Message())
	}
	return nil
}
