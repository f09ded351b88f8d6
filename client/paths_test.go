package client_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/client"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Each verb says what it is, and everything that was given travels.
func TestPathsOnTheWire(t *testing.T) {
	s := newScene(t, nil, nil)
	ctx := context.Background()
	plain := client.PathOptions{}
	for _, do := range []func() (*client.Answer, error){
		func() (*client.Answer, error) {
			return s.Paths.Read(ctx, "a/b", client.PathOptions{Consistency: client.Local(), Parameters: map[string][]string{"version": {"3"}}})
		},
		func() (*client.Answer, error) { return s.Paths.List(ctx, "a/", plain) },
		func() (*client.Answer, error) {
			return s.Paths.Write(ctx, "a", map[string]any{"k": "<v>", "n": 1}, client.PathOptions{WrapTTL: time.Minute})
		},
		func() (*client.Answer, error) { return s.Paths.Write(ctx, "a", nil, plain) },
		func() (*client.Answer, error) { return s.Paths.Patch(ctx, "a", map[string]any{"k": nil}, plain) },
		func() (*client.Answer, error) { return s.Paths.Delete(ctx, "a", plain) },
		func() (*client.Answer, error) { return s.Paths.Help(ctx, "a") },
	} {
		if _, err := do(); err != nil {
			t.Fatal(err)
		}
	}
	none := &conclavev1.ReadOptions{}
	want := []*conclavev1.CallPathRequest{
		{Verb: conclavev1.Verb_VERB_READ, Path: "a/b", Parameters: map[string]*conclavev1.PathParameter{"version": {Values: []string{"3"}}},
			Read: &conclavev1.ReadOptions{Consistency: conclavev1.Consistency_CONSISTENCY_LOCAL}},
		{Verb: conclavev1.Verb_VERB_LIST, Path: "a/", Read: none},
		{Verb: conclavev1.Verb_VERB_WRITE, Path: "a", Body: []byte(`{"k":"<v>","n":1}`), WrapTtl: durationpb.New(time.Minute), Read: none},
		{Verb: conclavev1.Verb_VERB_WRITE, Path: "a", Read: none},
		{Verb: conclavev1.Verb_VERB_PATCH, Path: "a", Body: []byte(`{"k":null}`), Read: none},
		{Verb: conclavev1.Verb_VERB_DELETE, Path: "a", Read: none},
		{Verb: conclavev1.Verb_VERB_READ, Path: "a", Help: true, Read: none},
	}
	for i, got := range s.nodes[0].calls {
		if !proto.Equal(got, want[i]) {
			t.Errorf("call %d was %v, want %v", i, got, want[i])
		}
	}
	if len(s.nodes[0].calls) != len(want) {
		t.Errorf("%d calls, want %d", len(s.nodes[0].calls), len(want))
	}
}

// An answer arrives whole, its numbers unread, and shows nothing secret unless
// asked.
func TestAnswerOfAPath(t *testing.T) {
	s := newScene(t, nil, nil)
	s.nodes[0].answer = &conclavev1.CallPathResponse{
		RequestId: "r", LeaseId: "l", Renewable: true, LeaseDuration: durationpb.New(time.Hour), Data: []byte(`{"n":12345678901234567890,"s":"swordfish"}`),
		Warnings: []string{"w"}, Missing: true, MountType: "kv", Index: 77,
		Auth: &conclavev1.PathAuth{ClientToken: "hvs.swordfish", Accessor: "a", Policies: []string{"p"}, Metadata: map[string]string{"k": "v"},
			LeaseDuration: durationpb.New(time.Minute), Renewable: true, EntityId: "e", TokenType: "batch", Orphan: true, NumUses: 3},
		WrapInfo: &conclavev1.PathWrapInfo{Token: "hvs.swordfish-w", Accessor: "wa", Ttl: durationpb.New(time.Second), CreatedAt: timestamppb.New(time.Unix(1e9, 0)), CreationPath: "p", WrappedAccessor: "x"},
	}
	got, err := s.Paths.Read(context.Background(), "a", client.PathOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var data map[string]any
	if err := got.Decode(&data); err != nil || fmt.Sprint(data["n"]) != "12345678901234567890" {
		t.Errorf("decoded %v, %v", data["n"], err)
	}
	if got.Auth.Token.Reveal() != "hvs.swordfish" || got.Wrap.Token.Reveal() != "hvs.swordfish-w" || s.LastIndex() != 77 {
		t.Errorf("tokens or index are lost; index %d", s.LastIndex())
	}
	if shown := fmt.Sprintf("%v %+v %#v %v %v", got, got, got, got.Auth, got.Wrap); strings.Contains(shown, "swordfish") {
		t.Errorf("a secret is shown in %s", shown)
	}
	got.Auth.Token, got.Wrap.Token, got.Data = client.Token{}, client.Token{}, client.Value{}
	want := &client.Answer{RequestID: "r", LeaseID: "l", Renewable: true, LeaseDuration: time.Hour, Warnings: []string{"w"}, Missing: true, MountType: "kv", Index: 77,
		Auth: &client.Auth{Accessor: "a", Policies: []string{"p"}, Metadata: map[string]string{"k": "v"}, LeaseDuration: time.Minute, Renewable: true, EntityID: "e", Type: "batch", Orphan: true, NumUses: 3},
		Wrap: &client.WrapInfo{Accessor: "wa", TTL: time.Second, CreatedAt: time.Unix(1e9, 0).UTC(), CreationPath: "p", WrappedAccessor: "x"}}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b client.Token) bool { return a == b }), cmp.Comparer(func(a, b client.Value) bool { return a.IsZero() == b.IsZero() })); d != "" {
		t.Error(d)
	}
	if err := got.Decode(&data); err == nil {
		t.Error("an answer without data was decoded")
	}
}

// A write by path is sent once when nobody knows what became of it, and again
// when it was not done. A read is repeated in any case.
func TestWriteByPathIsNotRepeated(t *testing.T) {
	ctx := context.Background()
	for name, do := range map[string]func(s *scene) error{
		"write":  func(s *scene) error { _, err := s.Paths.Write(ctx, "a", nil, client.PathOptions{}); return err },
		"patch":  func(s *scene) error { _, err := s.Paths.Patch(ctx, "a", nil, client.PathOptions{}); return err },
		"delete": func(s *scene) error { _, err := s.Paths.Delete(ctx, "a", client.PathOptions{}); return err },
	} {
		for what, failure := range map[string]reply{"said": unknown, "broken": bare(codes.Unavailable)} {
			s := newScene(t, nil, []reply{failure})
			if err := do(s); !errors.Is(err, client.ErrUnknownOutcome) || len(s.nodes[0].calls) != 1 {
				t.Errorf("%s, %s: sent %d times: %v", name, what, len(s.nodes[0].calls), err)
			}
		}
		s := newScene(t, nil, []reply{sealed}, []reply{noLeader}, nil)
		if err := do(s); err != nil || len(s.nodes[2].calls) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := newScene(t, nil, []reply{bare(codes.Unavailable)}, nil)
	if _, err := s.Paths.Read(ctx, "a", client.PathOptions{}); err != nil {
		t.Error(err)
	}
	behind := refusal(codes.Unavailable, "not there yet", &conclavev1.ErrorDetail{Reason: conclavev1.Reason_REASON_INDEX_NOT_REACHED, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE})
	s = newScene(t, nil, []reply{behind}, nil)
	if _, err := s.Paths.Write(ctx, "a", nil, client.PathOptions{}); err != nil {
		t.Errorf("a node that is behind was not left for another: %v", err)
	}
}

// A body that is no JSON is the caller's mistake, and its error shows no value.
func TestBodiesThatCannotBeSent(t *testing.T) {
	s := newScene(t, nil, nil)
	for _, body := range []any{math.NaN(), map[string]any{"swordfish": func() {}}, badJSON{}} {
		_, err := s.Paths.Write(context.Background(), "a", body, client.PathOptions{})
		if !errors.Is(err, client.ErrInvalid) || errors.Is(err, client.ErrUnknownOutcome) || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("got %v", err)
		}
	}
	if len(s.nodes[0].calls) != 0 {
		t.Error("it was sent")
	}
}

type badJSON struct{}

func (badJSON) MarshalJSON() ([]byte, error) { return nil, errors.New("swordfish") }

// A reason travels with every call, whatever its letters; a token can be
// exchanged over the same connection.
func TestReasonAndTokenOfACall(t *testing.T) {
	s := newScene(t, func(c *client.Config) { c.Reason = "TICKET-1" }, nil)
	check := func(c *client.Client, token, reason string) {
		t.Helper()
		if _, err := c.Secrets.Get(context.Background(), "a", client.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		n := s.nodes[0]
		if got := strings.Join(n.authorization, "|"); got != token {
			t.Errorf("token %q, want %q", got, token)
		}
		if got := strings.Join(n.reasons, "|"); got != reason {
			t.Errorf("reason %q, want %q", got, reason)
		}
	}
	derive := func(c *client.Client, err error) *client.Client {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	check(s.Client, "Bearer root-token", "TICKET-1")
	other := derive(s.WithToken(client.NewToken("other")))
	check(other, "Bearer other", "TICKET-1")
	check(derive(other.WithReason("größer")), "Bearer other", "größer")
	check(derive(s.WithToken(client.Token{})), "", "TICKET-1")
	check(derive(s.WithReason("")), "Bearer root-token", "")
	check(s.Session(), "Bearer root-token", "TICKET-1")

	for _, bad := range []string{"a\nb", "\x00", "\xff", strings.Repeat("x", 513)} {
		if _, err := s.WithReason(bad); err == nil {
			t.Errorf("reason %.10q was taken", bad)
		}
		if _, err := client.New(client.Config{Addresses: []string{"host"}, Reason: bad}); err == nil {
			t.Errorf("reason %.10q was taken", bad)
		}
	}
	if _, err := s.WithToken(client.NewToken("sword fish")); err == nil || strings.Contains(err.Error(), "fish") {
		t.Errorf("got %v", err)
	}
}
