package grpc

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	gstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/internal/redact"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

const (
	read  = conclavev1.Verb_VERB_READ
	write = conclavev1.Verb_VERB_WRITE
)

// A call arrives at core as it was sent: numbers unread, parameters by name, a
// trailing slash away.
func TestCallIsRead(t *testing.T) {
	got, err := readCall(&conclavev1.CallPathRequest{Verb: conclavev1.Verb_VERB_LIST, Path: "secret/metadata/a/",
		Parameters: map[string]*conclavev1.PathParameter{"after": {Values: []string{"b"}}}, WrapTtl: durationpb.New(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	if got.Verb != engine.VerbList || got.Path != "secret/metadata/a" || got.WrapTTL != time.Minute || got.Input.Query.Get("after") != "b" {
		t.Errorf("got %+v", got)
	}
	if got, err = readCall(&conclavev1.CallPathRequest{Verb: read, Path: "kv/a", Help: true}); err != nil || !got.Help {
		t.Errorf("got %+v, %v, want a question for help", got, err)
	}
	body := []byte(` {"n": 12345678901234567890.10} `)
	got, err = readCall(&conclavev1.CallPathRequest{Verb: write, Path: "kv/a", Body: body})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(engine.Object{"n": json.RawMessage("12345678901234567890.10")}, got.Input.Body); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(body, got.Raw); d != "" {
		t.Error(d)
	}
}

// What could mean two things, or nothing, is refused before core sees it, and no
// refusal repeats what was sent.
func TestCallsThatMakeNoSense(t *testing.T) {
	for _, test := range []struct {
		call *conclavev1.CallPathRequest
		want string
	}{
		{&conclavev1.CallPathRequest{Path: "a"}, "no verb"},
		{&conclavev1.CallPathRequest{Verb: 77, Path: "a"}, "no verb"},
		{&conclavev1.CallPathRequest{Verb: read}, "empty"},
		{&conclavev1.CallPathRequest{Verb: read, Path: "/"}, "empty"},
		{&conclavev1.CallPathRequest{Verb: read, Path: "/canary"}, "starts with a slash"},
		{&conclavev1.CallPathRequest{Verb: read, Path: "canary//b"}, "empty segment"},
		{&conclavev1.CallPathRequest{Verb: read, Path: "canary//"}, "ends with a slash"},
		{&conclavev1.CallPathRequest{Verb: read, Path: "canary/../b"}, "segment"},
		{&conclavev1.CallPathRequest{Verb: read, Path: "canary/."}, "segment"},
		{&conclavev1.CallPathRequest{Verb: read, Path: "canary\x00"}, "control character"},
		{&conclavev1.CallPathRequest{Verb: read, Path: "canary\n/b"}, "control character"},
		{&conclavev1.CallPathRequest{Verb: read, Path: strings.Repeat("a", maxPath+1)}, "longer than"},
		{&conclavev1.CallPathRequest{Verb: write, Path: "canary/"}, "ending in '/'"},
		{&conclavev1.CallPathRequest{Verb: conclavev1.Verb_VERB_PATCH, Path: "canary/"}, "ending in '/'"},
		{&conclavev1.CallPathRequest{Verb: write, Path: "canary", Help: true}, "no help"},
		{&conclavev1.CallPathRequest{Verb: read, Path: "a", Body: []byte(`{"canary":1}`)}, "read has no body"},
		{&conclavev1.CallPathRequest{Verb: conclavev1.Verb_VERB_DELETE, Path: "a", Body: []byte(`{}`)}, "delete has no body"},
		{&conclavev1.CallPathRequest{Verb: write, Path: "a", Body: []byte(`["canary"]`)}, "no JSON object"},
		{&conclavev1.CallPathRequest{Verb: write, Path: "a", Body: []byte(`{"canary"`)}, "no JSON object"},
		{&conclavev1.CallPathRequest{Verb: write, Path: "a", Body: []byte(strings.Repeat(`{"a":`, 5000))}, "deeper"},
		{&conclavev1.CallPathRequest{Verb: write, Path: "a", WrapTtl: durationpb.New(-time.Second)}, "wrap_ttl"},
		{&conclavev1.CallPathRequest{Verb: write, Path: "a", WrapTtl: durationpb.New(core.SystemTTL + 1)}, "wrap_ttl"},
		{&conclavev1.CallPathRequest{Verb: write, Path: "a", WrapTtl: &durationpb.Duration{Seconds: 1, Nanos: -1}}, "wrap_ttl"},
		{&conclavev1.CallPathRequest{Verb: write, Path: "a", WrapTtl: &durationpb.Duration{Seconds: 1 << 62}}, "wrap_ttl"},
	} {
		_, err := readCall(test.call)
		var e *core.Error
		if !errors.As(err, &e) || e.Reason != conclavev1.Reason_REASON_INVALID || e.Outcome != conclavev1.Outcome_OUTCOME_NOT_DONE {
			t.Errorf("%.60v: got %v, want a refusal with nothing done", test.call, err)
			continue
		}
		if !strings.Contains(e.Message, test.want) || strings.Contains(e.Message+e.Hint, "canary") {
			t.Errorf("%.60v: got %q, want %q in it", test.call, e.Message, test.want)
		}
	}
}

// An answer arrives whole; of a wrapped one nothing leads to what it wraps.
func TestReplyIsSpelled(t *testing.T) {
	at := time.Unix(1e9, 5)
	token := &core.Token{Accessor: "acc", Token: &storev1.Token{Policies: []string{"p"}, Metadata: map[string]string{"k": "v"}, Orphan: true, UsesLeft: 3}, EntityID: "e"}
	for _, test := range []struct {
		reply *core.Reply
		want  *conclavev1.CallPathResponse
	}{
		{&core.Reply{Answer: engine.Answer{Data: map[string]string{"k": "<&>"}, Warnings: []string{"w"}, Missing: true, LeaseID: "l", LeaseDuration: time.Hour, Renewable: true}, RequestID: "r", MountType: "kv", Index: 9},
			&conclavev1.CallPathResponse{RequestId: "r", LeaseId: "l", Renewable: true, LeaseDuration: durationpb.New(time.Hour), Data: []byte(`{"k":"<&>"}`), Warnings: []string{"w"}, Missing: true, MountType: "kv", Index: 9}},
		{&core.Reply{Answer: engine.Answer{Data: json.RawMessage(`{"n":1e400}`)}, Auth: &core.Auth{Token: token, Text: []byte("hvs.x"), TTL: time.Minute, Renewable: true}},
			&conclavev1.CallPathResponse{Data: []byte(`{"n":1e400}`), Auth: &conclavev1.PathAuth{ClientToken: "hvs.x", Accessor: "acc", Policies: []string{"p"}, Metadata: map[string]string{"k": "v"},
				LeaseDuration: durationpb.New(time.Minute), Renewable: true, EntityId: "e", TokenType: "service", Orphan: true, NumUses: 3}}},
		{&core.Reply{RequestID: "r", Wrap: &core.WrapInfo{Token: redact.New([]byte("hvs.w")), Accessor: "a", TTL: time.Second, CreatedAt: at, CreationPath: "p", WrappedAccessor: "wa"}},
			&conclavev1.CallPathResponse{WrapInfo: &conclavev1.PathWrapInfo{Token: "hvs.w", Accessor: "a", Ttl: durationpb.New(time.Second), CreatedAt: timestamppb.New(at), CreationPath: "p", WrappedAccessor: "wa"}}},
		{&core.Reply{}, &conclavev1.CallPathResponse{}},
	} {
		got, err := spellReply(test.reply)
		if err != nil || !proto.Equal(got, test.want) {
			t.Errorf("got %v %v, want %v", got, err, test.want)
		}
	}
	if _, err := spellReply(&core.Reply{Answer: engine.Answer{Data: func() {}}}); err == nil {
		t.Error("data that cannot be encoded was sent")
	}
}

// A reason reaches core as it was sent, ASCII or not.
func TestReasons(t *testing.T) {
	var got string
	_, conn := serve(t, Options{Node: fakeNode{status: func(ctx context.Context) (*conclavev1.GetStatusResponse, error) {
		got = caller(ctx).Reason
		return &conclavev1.GetStatusResponse{}, nil
	}}})
	c := conclavev1.NewStatusClient(conn)
	for _, good := range []struct{ key, reason string }{{reasonKey, "TICKET-123 (restore)"}, {reasonBinaryKey, "größer"}, {reasonBinaryKey, "two\nlines"}} {
		if _, err := c.Get(metadata.AppendToOutgoingContext(t.Context(), good.key, good.reason), &conclavev1.GetStatusRequest{}); err != nil || got != good.reason {
			t.Errorf("%s: got %q, %v", good.reason, got, err)
		}
	}
}

// The call is served: it reaches the node, and a cluster that was not founded
// says so.
func TestCallAsksTheNode(t *testing.T) {
	_, conn := serve(t, Options{Node: unfounded{}})
	_, err := conclavev1.NewPathsClient(conn).Call(t.Context(), &conclavev1.CallPathRequest{Verb: read, Path: "sys/mounts"})
	if gstatus.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "not founded") {
		t.Errorf("got %v", err)
	}
}

type unfounded struct{ Node }

func (unfounded) Rooms() (*Rooms, error) {
	return nil, &core.Error{Reason: conclavev1.Reason_REASON_NOT_INITIALIZED, Message: "not founded"}
}
