package testforeign

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/client"
)

// need is the result of a call that cannot fail.
func need[T any](t *testing.T) func(T, error) T {
	return func(result T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
}

// done checks a call that has no result.
func done(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// denied checks that a call failed with a status, and with words that clients match.
func denied(t *testing.T, h interface{ Status(err error) int }, err error, status int, words string) {
	t.Helper()
	if err == nil || h.Status(err) != status || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want status %d and %q", err, status, words)
	}
}

var names atomic.Int64

// unique is a name for what a test makes, which no other test has, nor another run
// of this one.
func unique(t *testing.T) string {
	clean := strings.Map(func(r rune) rune {
		if r == '/' || r == '_' {
			return '-'
		}
		return r
	}, strings.ToLower(t.Name()))
	return fmt.Sprintf("%s-%d", clean, names.Add(1))
}

// patience bounds what a test waits for.
const patience = 20 * time.Second

// eventually tries until try does.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// grant makes a lease, in the words of our own client: engines that lease secrets are
// still to come.
func grant(t *testing.T, prefix string, ttl time.Duration) (id string) {
	t.Helper()
	c, err := cluster.Client()
	if err != nil {
		t.Fatal(err)
	}
	granted, err := c.Leases.Grant(t.Context(), client.LeaseRequest{Prefix: prefix, TTL: ttl})
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	return granted.ID
}
