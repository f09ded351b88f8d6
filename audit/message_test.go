package audit

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

func transcribed(t *testing.T, path string, d Data) map[string]any {
	t.Helper()
	out := appendData([]byte("{"), `"x":`, path, &d, testHasher)
	var got struct{ X map[string]any }
	if err := json.Unmarshal(append(out, '}'), &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return got.X
}

// What a typed request carries is recorded as what the same request by path is: names
// in clear, texts and bytes as the hashes of their values.
func TestMessage(t *testing.T) {
	secret := &conclavev1.Secret{
		Path: "app/db",
		Data: map[string]*conclavev1.Field{
			"password": {Kind: &conclavev1.Field_Text{Text: "hunter2"}},
			"key":      {Kind: &conclavev1.Field_Binary{Binary: []byte{0, 1, 2}}},
		},
		Version:        &conclavev1.VersionInfo{Version: 3, CreatedAt: timestamppb.New(time.Unix(1, 5).UTC()), Deleted: true},
		CustomMetadata: map[string]string{"owner": "ada"},
	}
	got := transcribed(t, "secret/data/app/db", Data{Message: &conclavev1.GetSecretResponse{Secret: secret, Index: 7}, Omit: []string{"index"}})
	want := map[string]any{"secret": map[string]any{
		"path": "app/db",
		"data": map[string]any{
			"password": map[string]any{"text": HashValue(testHasher, []byte("hunter2"))},
			"key":      map[string]any{"binary": HashValue(testHasher, []byte{0, 1, 2})},
		},
		"version":         map[string]any{"version": 3.0, "created_at": "1970-01-01T00:00:01.000000005Z", "deleted": true},
		"custom_metadata": map[string]any{"owner": HashValue(testHasher, []byte("ada"))},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	request := &conclavev1.GetSecretRequest{Path: "elsewhere", Read: &conclavev1.ReadOptions{
		Consistency: conclavev1.Consistency_CONSISTENCY_BOUNDED, MaxAge: durationpb.New(90 * time.Second)}}
	got = transcribed(t, "secret/data/app/db", Data{Message: request})
	want = map[string]any{"path": HashValue(testHasher, []byte("elsewhere")),
		"read": map[string]any{"consistency": "CONSISTENCY_BOUNDED", "max_age": "1m30s"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = transcribed(t, "", Data{Message: &conclavev1.CreateJoinTokenResponse{Token: "t"}, Clear: []string{"token"}})
	if got["token"] != "t" {
		t.Errorf("an exempt field became %v", got)
	}
	if out := appendData(nil, `"x":`, "", &Data{Message: request, Omit: []string{"path", "read"}}, testHasher); len(out) > 0 {
		t.Errorf("nothing became %s", out)
	}
}

// Every message of the API comes out as JSON with all of its fields in it, whatever
// their kind, and no text or bytes of it in clear.
func TestEveryMessage(t *testing.T) {
	seen := 0
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		if mt.Descriptor().ParentFile().Package() != "conclave.v1" || mt.Descriptor().IsMapEntry() {
			return true
		}
		seen++
		m := mt.New()
		fill(m, 0)
		out := string(appendData(nil, "", "", &Data{Message: m.Interface()}, testHasher))
		var any map[string]any
		if err := json.Unmarshal([]byte(out), &any); err != nil && out != "" {
			t.Fatalf("%s: %v: %s", mt.Descriptor().Name(), err, out)
		}
		if strings.Contains(out, "canary") {
			t.Errorf("%s shows a value: %s", mt.Descriptor().Name(), out)
		}
		fields := mt.Descriptor().Fields()
		for i := range fields.Len() {
			if fd := fields.Get(i); m.Has(fd) && any[string(fd.Name())] == nil {
				t.Errorf("%s: field %s is missing: %s", mt.Descriptor().Name(), fd.Name(), out)
			}
		}
		return true
	})
	if seen < 40 {
		t.Errorf("%d messages were looked at", seen)
	}
}

// fill gives each field of a message a value.
func fill(m protoreflect.Message, depth int) {
	if depth > 3 {
		return
	}
	one := func(fd protoreflect.FieldDescriptor, fresh func() protoreflect.Value) protoreflect.Value {
		switch fd.Kind() {
		case protoreflect.MessageKind:
			v := fresh()
			fill(v.Message(), depth+1)
			return v
		case protoreflect.StringKind:
			return protoreflect.ValueOfString("canary text")
		case protoreflect.BytesKind:
			return protoreflect.ValueOfBytes([]byte("canary bytes"))
		case protoreflect.BoolKind:
			return protoreflect.ValueOfBool(true)
		case protoreflect.EnumKind:
			return protoreflect.ValueOfEnum(1)
		case protoreflect.Int32Kind:
			return protoreflect.ValueOfInt32(-7)
		case protoreflect.Int64Kind:
			return protoreflect.ValueOfInt64(-7)
		case protoreflect.Uint32Kind:
			return protoreflect.ValueOfUint32(7)
		case protoreflect.Uint64Kind:
			return protoreflect.ValueOfUint64(7)
		}
		panic("a kind that no message had: " + fd.Kind().String())
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		switch fd := fields.Get(i); {
		case fd.IsMap():
			entries := m.Mutable(fd).Map()
			entries.Set(protoreflect.ValueOfString("a name").MapKey(), one(fd.MapValue(), entries.NewValue))
		case fd.IsList():
			list := m.Mutable(fd).List()
			list.Append(one(fd, list.NewElement))
			list.Append(one(fd, list.NewElement))
		default:
			m.Set(fd, one(fd, func() protoreflect.Value { return m.NewField(fd) }))
		}
	}
}

// What is long is cut, and said to be; what is deep as well.
func TestMessageBounds(t *testing.T) {
	names := make([]string, 5000)
	for i := range names {
		names[i] = fmt.Sprint("name", i)
	}
	data := map[string]*conclavev1.Field{}
	for _, n := range names {
		data[n] = &conclavev1.Field{Kind: &conclavev1.Field_Text{Text: n}}
	}
	for _, m := range []proto.Message{
		&conclavev1.ListSecretsResponse{Names: names, More: true},
		&conclavev1.PutSecretRequest{Path: "p", Data: data},
		&conclavev1.GetSecretResponse{Secret: &conclavev1.Secret{Data: data, CustomMetadata: map[string]string{"a": "b"}}, Index: 1},
	} {
		out := string(appendData(nil, "", "", &Data{Message: m}, testHasher))
		if !json.Valid([]byte(out)) || len(out) > maxData+1024 || !strings.Contains(out, keyMore) {
			t.Errorf("%T became %d bytes, valid %v: …%s", m, len(out), json.Valid([]byte(out)), out[max(0, len(out)-200):])
		}
	}
	type nested struct {
		Child *nested `protobuf:"bytes,1,opt,name=child,proto3"`
	}
	deep := &nested{}
	for range 100 {
		deep = &nested{Child: deep}
	}
	tr := transcriber{data: &Data{}, hash: testHasher}
	tr.message(reflect.ValueOf(deep), 0)
	if got := strings.Count(string(tr.dst), "child"); got != maxDepth || !json.Valid(tr.dst) {
		t.Errorf("%d levels: %s", got, tr.dst)
	}
}

// A buffer that held values holds none when the next message gets it.
func TestMessageLeavesNothingBehind(t *testing.T) {
	tr := transcribers.Get().(*transcriber)
	tr.scratch = append(tr.scratch[:0], "canary"...)
	transcribers.Put(tr)
	appendMessage(nil, "", &Data{Message: &conclavev1.CreateJoinTokenResponse{Token: "another canary"}}, testHasher)
	again := transcribers.Get().(*transcriber)
	defer transcribers.Put(again)
	if held := string(again.scratch[:cap(again.scratch)]); strings.Contains(held, "canary") || slices.ContainsFunc(again.dst, func(byte) bool { return true }) {
		t.Errorf("it holds %q", held)
	}
}
