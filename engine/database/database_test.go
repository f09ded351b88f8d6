package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
	"github.com/conclave-secrets/conclave/internal/redact"
)

// scripted is a database of which there is nothing but what the engine asks of it.
type scripted struct {
	mu       sync.Mutex
	password string // the only one that logs in
	opened   int
	closed   chan struct{} // gets one for each connection that is closed
	logins   []string      // passwords that were tried
}

func newScripted() *scripted { return &scripted{password: "right", closed: make(chan struct{}, 100)} }

func (s *scripted) Names() []string      { return []string{"scripted-database-plugin", "scripted"} }
func (s *scripted) Usernames() Usernames { return Usernames{"u-{{random 20}}", 40} }
func (s *scripted) Check(o Settings) error {
	if o.URL == "" {
		return &engine.InvalidError{Why: "connection_url is missing"}
	}
	return nil
}

func (s *scripted) Open(o Settings) (Connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened++
	return &line{s, string(o.Password.Expose())}, nil
}

func (s *scripted) Rotate(context.Context, Settings, redact.Bytes, []string) error { return nil }

type line struct {
	*scripted
	with string
}

func (l *line) Verify(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logins = append(l.logins, l.with)
	if l.with != l.password {
		return &engine.OutsideError{System: "scripted", Why: "no", Cause: ErrLogin}
	}
	return nil
}
func (l *line) Create(ctx context.Context, _ Account) error { return l.Verify(ctx) }
func (l *line) Renew(ctx context.Context, _ string, _ time.Time, _ []string) error {
	return l.Verify(ctx)
}
func (l *line) Drop(ctx context.Context, _ string, _ []string) error { return l.Verify(ctx) }
func (l *line) Close()                                               { l.closed <- struct{}{} }

const goodConfig = `{"plugin_name": "scripted", "connection_url": "at://home", "username": "u", "password": "right", "allowed_roles": ["*"]}`

func stock(t testing.TB, store *enginetest.Store) {
	b := New(newScripted())
	for _, a := range []enginetest.Ask{
		enginetest.Asking(engine.VerbWrite, "config/pg", goodConfig),
		enginetest.Asking(engine.VerbWrite, "config/half", goodConfig),
		enginetest.Asking(engine.VerbWrite, "rotate-root/half", ""),
		enginetest.Asking(engine.VerbWrite, "config/gone", goodConfig),
		enginetest.Asking(engine.VerbDelete, "config/gone", ""),
		enginetest.Asking(engine.VerbWrite, "roles/app", `{"db_name": "pg", "creation_statements": "MAKE {{name}}"}`),
	} {
		if err := enginetest.Answer(store, b, enginetest.RouteOptions{}, a); err != nil {
			t.Fatal(err)
		}
	}
}

func asks() []enginetest.Ask {
	return []enginetest.Ask{
		enginetest.Asking(engine.VerbList, "config", ""),
		enginetest.Asking(engine.VerbList, "config?after=half&limit=1", ""),
		enginetest.Asking(engine.VerbRead, "config/pg", ""),
		enginetest.Asking(engine.VerbRead, "config/none", ""),
		enginetest.Asking(engine.VerbWrite, "config/new", goodConfig),
		enginetest.Asking(engine.VerbWrite, "config/pg", `{"allowed_roles": "a,b", "max_open_connections": "7"}`),
		enginetest.Asking(engine.VerbWrite, "config/new", `{}`),
		enginetest.Asking(engine.VerbDelete, "config/pg", ""),
		enginetest.Asking(engine.VerbDelete, "config/gone", ""),
		enginetest.Asking(engine.VerbDelete, "config/none", ""),
		enginetest.Asking(engine.VerbList, "roles", ""),
		enginetest.Asking(engine.VerbRead, "roles/app", ""),
		enginetest.Asking(engine.VerbRead, "roles/none", ""),
		enginetest.Asking(engine.VerbWrite, "roles/new", `{"db_name": "pg", "creation_statements": ["MAKE {{name}}"], "default_ttl": "1h"}`),
		enginetest.Asking(engine.VerbWrite, "roles/app", `{"max_ttl": 60}`),
		enginetest.Asking(engine.VerbWrite, "roles/new", `{"db_name": "pg"}`),
		enginetest.Asking(engine.VerbDelete, "roles/app", ""),
		enginetest.Asking(engine.VerbRead, "creds/app", ""),
		enginetest.Asking(engine.VerbRead, "creds/none", ""),
		enginetest.Asking(engine.VerbWrite, "reset/pg", ""),
		enginetest.Asking(engine.VerbWrite, "rotate-root/pg", ""),
		enginetest.Asking(engine.VerbWrite, "rotate-root/half", ""),
		enginetest.Asking(engine.VerbWrite, "rotate-root/none", ""),
	}
}

// The routes keep the contract of a route.
func TestRoutes(t *testing.T) {
	enginetest.TestRoutes(t, New(newScripted()), enginetest.RouteOptions{Prepare: stock}, asks()...)
}

func FuzzRoutes(f *testing.F) {
	enginetest.FuzzRoutes(f, New(newScripted()), enginetest.RouteOptions{Prepare: stock}, asks()...)
}

// What Vault's clients rely on, as stories.
func TestTranscripts(t *testing.T) {
	enginetest.TestTranscripts(t, New(newScripted()), "testdata/*.txt")
}

// Names are made as Vault's templates say.
func TestNames(t *testing.T) {
	n := naming{"token-alice smith", "reporting", constant(7), time.Unix(1_700_000_000, 0)}
	tail := "-" + strings.Repeat("7", 20)
	for text, want := range map[string]string{
		`{{ printf "v-%s-%s-%s-%s" (.DisplayName | truncate 8) (.RoleName | truncate 8) (random 20) (unix_time) | truncate 63 }}`: "v-token-al-reportin" + tail + "-1700000000",
		`{{.DisplayName | truncate 30}}-{{random 20}}`:                           "token-alice-smith" + tail,
		`x{{uppercase (truncate 3 .RoleName)}}-{{random 20}}`:                    "xREP" + tail,
		`{{.RoleName | replace "o" "0" | truncate 9 | lowercase}}-{{random 20}}`: "rep0rting" + tail,
		`{{unix_time_millis}}-{{random 20}}`:                                     "1700000000000" + tail,
		`{{.RoleName | sha256 | truncate 4}}-{{random 20}}`:                      hashed("reporting")[:4] + tail,
		`{{.DisplayName | truncate_sha256 12}}-{{random 20}}`:                    "toke" + hashed("n-alice-smith")[:8] + tail,
		`{{printf "%s%d%%" "a" 5}}-{{random 20}}`:                                "a5%" + tail,
	} {
		parsed, err := parseNames(text, 63)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := parsed.name(n, 63); err != nil || got != want {
			t.Errorf("%s: got %s %v, want %s", text, got, err, want)
		}
	}
}

// A template that could make a name twice, or one that does not fit or leaves its quotes,
// or that computes more than a name takes, is refused.
func TestBadNames(t *testing.T) {
	for _, text := range []string{
		"", "fixed", "{{.RoleName | truncate 20}}", "{{unix_time}}", "{{random 9}}", "{{random 20 | truncate 9}}", "{{printf \"%s\" (random 30) | truncate 5}}",
		"{{.RoleName}}-{{random 20}}", "{{random 64}}", "{{random 101}}", "{{random 20}}'", `{{random 20}}"`, "{{random 20}}$$", "ä{{random 20}}",
		"{{range 1000000000}}x{{end}}", "{{if true}}x{{end}}{{random 20}}", "{{$x := 1}}{{random 20}}", `{{template "x"}}`, `{{define "x"}}{{end}}`,
		"{{.Password}}{{random 20}}", "{{.}}{{random 20}}", "{{random}}", "{{random -1}}", "{{truncate 5}}{{random 20}}", `{{"x" "y"}}{{random 20}}`,
		`{{printf "%1000000s" "x" | truncate 3}}{{random 20}}`, `{{printf "%s"}}{{random 20}}`, "{{call 1}}", "{{random 20", strings.Repeat("x", maxTemplateBytes+1),
		`{{replace "" "` + strings.Repeat("y", 100) + `" (random 100) | truncate 20}}`, "{{5}}{{5 | random 20}}", "{{uppercase}}{{random 20}}",
	} {
		var invalid *engine.InvalidError
		if _, err := parseNames(text, 63); !errors.As(err, &invalid) {
			t.Errorf("%.60s: got %v, want an InvalidError", text, err)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{`{{ printf "v-%s" (random 20) | truncate 63 }}`, "{{.RoleName | truncate 8}}{{random 30}}", "{{range}}"} {
		f.Add(s, "display", "role")
	}
	f.Fuzz(func(t *testing.T, text, displayName, roleName string) {
		parsed, err := parseNames(text, 63)
		if err != nil {
			return
		}
		name, err := parsed.name(naming{displayName, roleName, constant(1), time.Unix(0, 0)}, 63)
		if err == nil && (len(name) > 63 || !Quotable(name)) {
			t.Errorf("%q makes %q", text, name)
		}
	})
}

// Both passwords of a rotation that is not promoted are tried, the old one first, and no
// third.
func TestBothPasswordsAreTried(t *testing.T) {
	for right, want := range map[string][]string{"old": {"old"}, "new": {"old", "new"}, "neither": {"old", "new"}} {
		s := newScripted()
		s.password = right
		b := New(s)
		c := &config{Plugin: "scripted", URL: "x", Password: "old", Next: "new"}
		err := b.connected(t.Context(), engine.Mount{ID: "m"}, "pg", c, func(ctx context.Context, to Connection) error { return to.Verify(ctx) })
		if (err == nil) != (right != "neither") || !slices.Equal(s.logins, want) {
			t.Errorf("%s: tried %q, %v", right, s.logins, err)
		}
		b.Close()
	}
}

// A pool is shared by those who need the same, closed when nobody used it for a while,
// and not while somebody does.
func TestPools(t *testing.T) {
	s := newScripted()
	b := New(s)
	b.Idle = time.Millisecond
	use := func(c *config, f func()) {
		t.Helper()
		if err := b.connected(t.Context(), engine.Mount{ID: "m"}, "pg", c, func(context.Context, Connection) error { f(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	c := &config{Plugin: "scripted", Password: "right"}
	use(c, func() {
		use(c, func() {})
		if s.opened != 1 || len(s.closed) != 0 {
			t.Errorf("%d opened, %d closed, while one is in use", s.opened, len(s.closed))
		}
		for _, change := range []func(*config){func(c *config) { c.Password = "other" }, func(c *config) { c.Resets++ }, func(c *config) { c.URL = "y" }} {
			other := *c
			change(&other)
			before := s.opened
			if use(&other, func() {}); s.opened != before+1 {
				t.Error("a changed config has the pool of the one before")
			}
			<-s.closed
		}
	})
	<-s.closed
	use(c, func() {})
	<-s.closed
	if s.opened != 5 {
		t.Errorf("%d opened", s.opened)
	}
}

// There are never many pools that nobody uses; closing the backend closes all.
func TestPoolsAreBounded(t *testing.T) {
	s := newScripted()
	b := New(s)
	for i := range maxPools + 3 {
		c := &config{Plugin: "scripted", URL: fmt.Sprint(i)}
		if err := b.connected(t.Context(), engine.Mount{}, "pg", c, func(context.Context, Connection) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		<-s.closed
	}
	if n := len(b.pools.open); n != maxPools {
		t.Errorf("%d pools are open", n)
	}
	b.Close()
	for range maxPools {
		<-s.closed
	}
}
