package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/client"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// The fields of a secret arrive by kind, the token travels as a bearer.
func TestGetReadsFieldsAndSendsToken(t *testing.T) {
	s := newScene(t, nil, nil)
	got, err := s.Secrets.Get(context.Background(), "a/b", client.GetOptions{Version: 3})
	if err != nil {
		t.Fatal(err)
	}
	revealed := map[string]string{}
	for name, v := range got.Data {
		revealed[name] = fmt.Sprint(v.Kind(), ":", string(v.Reveal()))
	}
	want := map[string]string{"text": "0:swordfish", "binary": "1:\x00\xff", "json": "2:[1,2]"}
	if d := cmp.Diff(want, revealed); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"Bearer root-token"}, s.nodes[0].authorization); d != "" {
		t.Error(d)
	}
	if got.Index != 10 || s.LastIndex() != 10 || s.nodes[0].gets[0].GetVersion() != 3 {
		t.Errorf("index %d, last index %d, version asked %d", got.Index, s.LastIndex(), s.nodes[0].gets[0].GetVersion())
	}
}

// Each consistency level has one spelling on the wire.
func TestConsistencyOnTheWire(t *testing.T) {
	for _, test := range []struct {
		level client.Consistency
		want  string
	}{
		{client.Consistency{}, `{}`},
		{client.Linearizable(), `{"consistency":1}`},
		{client.Bounded(1500 * time.Millisecond), `{"consistency":2,"max_age":{"seconds":1,"nanos":500000000}}`},
		{client.AtLeast(12), `{"consistency":3,"at_least_index":12}`},
		{client.Local(), `{"consistency":4}`},
	} {
		s := newScene(t, nil, nil)
		if _, err := s.Secrets.Get(context.Background(), "a", client.GetOptions{Consistency: test.level}); err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(s.nodes[0].gets[0].GetRead())
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

// A session reads at least what it wrote; its parent does not change.
func TestSessionReadsItsOwnWrites(t *testing.T) {
	s := newScene(t, nil, nil)
	session := s.Session()
	s.nodes[0].index = 41
	if _, err := session.Secrets.Put(context.Background(), "a", fields, client.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s.nodes[0].index = 40 // an older answer must not lower the bound
	for range 2 {
		if _, err := session.Secrets.Get(context.Background(), "a", client.GetOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := get(s); err != nil {
		t.Fatal(err)
	}
	want := []*conclavev1.ReadOptions{
		{Consistency: conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX, AtLeastIndex: 41},
		{Consistency: conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX, AtLeastIndex: 41},
		{},
	}
	for i, r := range s.nodes[0].gets {
		if !proto.Equal(r.GetRead(), want[i]) {
			t.Errorf("read %d asked %v, want %v", i, r.GetRead(), want[i])
		}
	}
}

// The caller's own key is sent; both switches at once are refused unsent.
func TestIdempotencyKeyOfTheCaller(t *testing.T) {
	s := newScene(t, nil, nil)
	if err := put(s, client.PutOptions{WriteOptions: client.WriteOptions{IdempotencyKey: "mine"}}); err != nil {
		t.Fatal(err)
	}
	if err := put(s, client.PutOptions{WriteOptions: client.WriteOptions{IdempotencyKey: "mine", NoIdempotencyKey: true}}); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
	if n, _ := s.nodes[0].counts(); n != 1 || s.nodes[0].puts[0].GetWrite().GetIdempotencyKey() != "mine" {
		t.Errorf("sent %d times, first under key %q", n, s.nodes[0].puts[0].GetWrite().GetIdempotencyKey())
	}
}

// Tokens, shares and values never show their text unless revealed.
func TestSecretsAreRedacted(t *testing.T) {
	const canary = "swordfish"
	holder := struct {
		Token  client.Token
		Share  client.Share
		Value  client.Value
		Config client.Config
	}{client.NewToken(canary), client.NewShare(canary), client.Text(canary), client.Config{Token: client.NewToken(canary)}}
	var shown strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&shown, verb+"\n", holder)
		fmt.Fprintf(&shown, verb+"\n", holder.Token)
	}
	slog.New(slog.NewTextHandler(&shown, nil)).Info("seen", "token", holder.Token, "value", holder.Value, "share", holder.Share)
	dumped, err := json.Marshal([]any{holder.Token, holder.Share, holder.Value})
	if err != nil {
		t.Fatal(err)
	}
	shown.Write(dumped)
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprint([]byte(canary))} {
		if strings.Contains(shown.String(), form) {
			t.Errorf("%q is shown in\n%s", form, shown.String())
		}
	}
	if !strings.Contains(shown.String(), "[redacted]") {
		t.Error("nothing is shown as redacted")
	}
}

// Every reason of the API has its own name here and, where programs branch on
// it, a sentinel.
func TestReasonsMatchTheAPI(t *testing.T) {
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	for number, name := range conclavev1.Reason_name {
		if number == 0 {
			continue
		}
		short := strings.ToLower(strings.TrimPrefix(name, "REASON_"))
		if !strings.Contains(string(source), `"`+short+`"`) {
			t.Errorf("reason %s has no constant %q", name, short)
		}
	}
}

// Addresses are completed and checked before anything is dialed.
func TestAddresses(t *testing.T) {
	for _, bad := range []string{"", ":8210", "host:", "a:b:c", "[::1", "host:1:2"} {
		if _, err := client.New(client.Config{Addresses: []string{bad}}); err == nil {
			t.Errorf("address %q was accepted", bad)
		}
	}
	for _, good := range []string{"host", "host:1", "::1", "[::1]", "[::1]:8210", "10.0.0.1"} {
		c, err := client.New(client.Config{Addresses: []string{good}})
		if err != nil {
			t.Errorf("address %q: %v", good, err)
			continue
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := client.New(client.Config{}); err == nil {
		t.Error("a configuration without addresses was accepted")
	}
}

// A closed client says so.
func TestClosedClient(t *testing.T) {
	s := newScene(t, func(c *client.Config) { c.RetryFor = -1 }, nil)
	if err := s.Client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := get(s); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}

// A token that cannot travel in a header is refused, unsent and unrepeated.
func TestTokenOfOddCharacters(t *testing.T) {
	for _, odd := range []string{"swordfish\n", "sword fish", "sword\x00fish", "swördfish"} {
		_, err := client.New(client.Config{Addresses: []string{"host"}, Token: client.NewToken(odd)})
		if err == nil || strings.Contains(err.Error(), "fish") {
			t.Errorf("got %v, want a refusal that does not repeat the token", err)
		}
	}
}
