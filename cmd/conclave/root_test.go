package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-secrets/conclave/client"
)

// Each kind of error has its documented exit code.
func TestExitCodes(t *testing.T) {
	for reason, want := range map[client.Reason]int{
		client.ReasonInvalid: 1, client.ReasonTooLarge: 1, client.ReasonShareWrong: 1,
		client.ReasonInternal: 2, client.ReasonUnavailable: 2, client.ReasonEnded: 2, client.ReasonOverloaded: 2, client.ReasonDiskFull: 2,
		client.ReasonDenied: 3, client.ReasonUnauthenticated: 3,
		client.ReasonNotFound: 4, client.ReasonVersionDeleted: 4, client.ReasonLeaseExpired: 4,
		client.ReasonCASMismatch: 5, client.ReasonAlreadyInitialized: 5, client.ReasonUnsafe: 5,
		client.ReasonSealed: 6, client.ReasonNotInitialized: 6, client.ReasonNoLeader: 6,
	} {
		err := fmt.Errorf("wrapped: %w", &client.Error{Reason: reason, Outcome: client.OutcomeNotDone})
		if got := exitCode(err); got != want {
			t.Errorf("%s: exit code %d, want %d", reason, got, want)
		}
	}
	// An unknown outcome is neither a conflict nor a denial, whatever came last.
	if got := exitCode(&client.Error{Reason: client.ReasonDenied, Outcome: client.OutcomeUnknown}); got != exitServer {
		t.Errorf("unknown outcome: exit code %d, want %d", got, exitServer)
	}
	if got := exitCode(errors.Join(exitWith(42), nil)); got != 42 {
		t.Errorf("passed on: exit code %d, want 42", got)
	}
}

// An unknown outcome is told with the key that resolves it.
func TestUnknownOutcomeIsToldWithItsKey(t *testing.T) {
	err := &client.Error{Activity: "putting secret", Message: "time ran out", Outcome: client.OutcomeUnknown, IdempotencyKey: "abc"}
	var asText, asJSON bytes.Buffer
	reportError(&asText, err, false)
	reportError(&asJSON, err, true)
	if !strings.Contains(asText.String(), "outcome is unknown") {
		t.Errorf("text: %s", asText.String())
	}
	var got struct{ Error map[string]any }
	if err := json.Unmarshal(asJSON.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Error["outcome"] != "unknown" || got.Error["idempotency_key"] != "abc" {
		t.Errorf("JSON: %v", got.Error)
	}
}

func TestConsistencyFlag(t *testing.T) {
	for in, want := range map[string]client.Consistency{
		"linearizable": client.Linearizable(), "local": client.Local(), "index=12": client.AtLeast(12), "bounded=1m": client.Bounded(time.Minute),
	} {
		if got, err := parseConsistency(in); err != nil || got != want {
			t.Errorf("%s: got %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "strong", "index", "index=-1", "bounded=", "bounded=-1s", "bounded=0s", "local=", "linearizable=x"} {
		if _, err := parseConsistency(bad); exitCode(err) != exitUsage {
			t.Errorf("%q: got %v, want a usage error", bad, err)
		}
	}
}

// Long flags may have one dash; what follows "--" and values are left alone.
func TestLongDashes(t *testing.T) {
	root := newRoot(streams{})
	in := []string{"kv", "get", "-field", "k", "-version=3", "-h", "-", "-x", "--format", "json", "--", "-field"}
	want := []string{"kv", "get", "--field", "k", "--version=3", "-h", "-", "-x", "--format", "json", "--", "-field"}
	if d := cmp.Diff(want, longDashes(root, in)); d != "" {
		t.Error(d)
	}
}

func TestEditDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"gte", "get", 1}, {"get", "dev", 2}, {"ab", "ba", 1}, {"stauts", "status", 1}, {"kitten", "sitting", 3}, {"same", "same", 0}} {
		if got := editDistance(test.a, test.b); got != test.want {
			t.Errorf("%s, %s: %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

// Shares come one per line from a pipe, and once from a terminal.
func TestShareSources(t *testing.T) {
	next := pipedShares(strings.NewReader("\n one \n\ntwo"))
	var got []string
	for {
		share, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, share.Reveal())
	}
	if d := cmp.Diff([]string{"one", "two"}, got); d != "" {
		t.Error(d)
	}

	var prompt bytes.Buffer
	inv := &invocation{streams: streams{err: &prompt, readHidden: func(context.Context) ([]byte, error) { return []byte("typed\r"), nil }}}
	next = inv.promptedShare(context.Background())
	share, err := next()
	if err != nil || share.Reveal() != "typed" {
		t.Errorf("got a share of %d bytes and %v", len(share.Reveal()), err)
	}
	if _, err := next(); !errors.Is(err, io.EOF) {
		t.Errorf("a second prompt: %v", err)
	}
	if strings.Contains(prompt.String(), "typed") {
		t.Error("the share is shown")
	}
	if _, err := pipedShares(strings.NewReader(strings.Repeat("x", maxShareBytes+1)))(); exitCode(err) != exitUsage {
		t.Errorf("an endless line: %v", err)
	}
}
