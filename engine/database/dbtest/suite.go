// Package dbtest is the contract of database.Plugin as tests. They run against a real
// server: what a scripted one does proves nothing. Only tests may import it.
package dbtest

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/database"
	"github.com/conclave-secrets/conclave/internal/redact"
)

// A Target is a real server, and a plug-in that speaks to it.
type Target struct {
	Plugin database.Plugin
	// Settings log in as somebody who may make users.
	Settings database.Settings
	// At are settings like those for another address of a server, HOST:PORT.
	At func(address string) database.Settings
	// Creation makes a user. Broken fails after it has made one.
	Creation, Broken []string
	// NewRoot makes a user whose password Rotate may change, and returns its settings.
	NewRoot func(testing.TB) database.Settings
	// Login logs in as a user, with nothing of the plug-in.
	Login func(ctx context.Context, name, password string) error
	// Logged tells whether the server's log, which has every statement, has a text.
	Logged func(testing.TB, string) bool
}

// Test checks everything that database.Plugin and database.Connection promise.
func Test(t *testing.T, target Target) {
	for name, test := range map[string]func(*testing.T, Target){
		"lives and dies": livesAndDies, "drop of nobody": dropOfNobody, "whole or not at all": wholeOrNotAtAll, "no second of a name": noSecond,
		"renewal of nobody": renewalOfNobody, "an end": anEnd, "unquotable names": unquotable, "wrong password": wrongPassword,
		"refused connection": refusedConnection, "hung connection": hungConnection, "rotation": rotation, "rotations at once": rotationsAtOnce,
		"silence": silence,
	} {
		t.Run(name, func(t *testing.T) { test(t, target) })
	}
}

func (g Target) open(t *testing.T, s database.Settings) database.Connection {
	t.Helper()
	if err := g.Plugin.Check(s); err != nil {
		t.Fatal(err)
	}
	c, err := g.Plugin.Open(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// patience is enough for any server that works.
const patience = 30 * time.Second

func (g Target) account(t *testing.T, password string) database.Account {
	name := "dbtest-" + strings.ToLower(strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()))
	return database.Account{Name: name[:min(len(name), g.Plugin.Usernames().MaxBytes)], Password: redact.New([]byte(password)), Until: time.Now().Add(time.Hour), Statements: g.Creation}
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func need(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails checks an error of the database, and that it names no secret.
func fails(t *testing.T, err error, words string, secrets ...string) {
	t.Helper()
	var told *engine.OutsideError
	if !errors.As(err, &told) || !strings.Contains(told.Why, words) {
		t.Fatalf("got %v, want an OutsideError with %q", err, words)
	}
	for e := error(told); e != nil; e = errors.Unwrap(e) {
		for _, secret := range secrets {
			if strings.Contains(e.Error(), secret) {
				t.Errorf("the error names a secret: %v", e)
			}
		}
	}
}

// A user can log in, with whatever password, is renewed, and is gone when dropped, also
// with a session open, and again.
func livesAndDies(t *testing.T, g Target) {
	c := g.open(t, g.Settings)
	for _, password := range []string{"Plain0Letters", ` '"\$;--{{name}}%s `} {
		a := g.account(t, password)
		need(t, c.Create(bounded(t), a))
		need(t, g.Login(bounded(t), a.Name, password))
		if g.Login(bounded(t), a.Name, password+"x") == nil {
			t.Error("another password logs in")
		}
		need(t, c.Renew(bounded(t), a.Name, time.Now().Add(2*time.Hour), nil))
		need(t, g.Login(bounded(t), a.Name, password))
		for range 2 {
			need(t, c.Drop(bounded(t), a.Name, nil))
			if g.Login(bounded(t), a.Name, password) == nil {
				t.Error("a user that was dropped logs in")
			}
		}
	}
}

func dropOfNobody(t *testing.T, g Target) {
	need(t, g.open(t, g.Settings).Drop(bounded(t), "dbtest-nobody", nil))
}

// What fails in the middle leaves nothing.
func wholeOrNotAtAll(t *testing.T, g Target) {
	c, a := g.open(t, g.Settings), g.account(t, "Secret1word")
	a.Statements = g.Broken
	fails(t, c.Create(bounded(t), a), "statement 2 of creation_statements", "Secret1word")
	if g.Login(bounded(t), a.Name, "Secret1word") == nil {
		t.Error("half a user logs in")
	}
	a.Statements = g.Creation
	need(t, c.Create(bounded(t), a)) // the name is free
	need(t, c.Drop(bounded(t), a.Name, nil))
}

// A user that is there is not touched by another of the name.
func noSecond(t *testing.T, g Target) {
	c, a := g.open(t, g.Settings), g.account(t, "First0password")
	need(t, c.Create(bounded(t), a))
	again := a
	again.Password = redact.New([]byte("Second0password"))
	fails(t, c.Create(bounded(t), again), "statement 1 of creation_statements", "Second0password")
	need(t, g.Login(bounded(t), a.Name, "First0password"))
	need(t, c.Drop(bounded(t), a.Name, nil))
}

func renewalOfNobody(t *testing.T, g Target) {
	fails(t, g.open(t, g.Settings).Renew(bounded(t), "dbtest-nobody", time.Now().Add(time.Hour), nil), "statement 1 of renew_statements")
}

// A user ends by itself.
func anEnd(t *testing.T, g Target) {
	c, a := g.open(t, g.Settings), g.account(t, "Brief0password")
	a.Until = time.Now().Add(-time.Second)
	need(t, c.Create(bounded(t), a))
	if g.Login(bounded(t), a.Name, "Brief0password") == nil {
		t.Error("a user logs in after its end")
	}
	need(t, c.Drop(bounded(t), a.Name, nil))
}

// A name that could leave its quotes is refused, whatever it is wanted for.
func unquotable(t *testing.T, g Target) {
	c := g.open(t, g.Settings)
	for _, name := range []string{`a"; DROP ROLE admin; --`, "a'b", `a\`, "a$$b", "a\nb", "ä"} {
		a := g.account(t, "x")
		a.Name = name
		for _, err := range []error{c.Create(bounded(t), a), c.Renew(bounded(t), name, time.Now(), nil), c.Drop(bounded(t), name, nil)} {
			var invalid *engine.InvalidError
			if !errors.As(err, &invalid) {
				t.Errorf("%q: got %v, want an InvalidError", name, err)
			}
		}
	}
}

func wrongPassword(t *testing.T, g Target) {
	s := g.Settings
	s.Password = redact.New([]byte("Not0the1password"))
	err := g.open(t, s).Verify(bounded(t))
	fails(t, err, "refuses", "Not0the1password")
	if !errors.Is(err, database.ErrLogin) {
		t.Errorf("%v is no ErrLogin", err)
	}
}

func refusedConnection(t *testing.T, g Target) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	need(t, err)
	need(t, l.Close())
	fails(t, g.open(t, g.At(l.Addr().String())).Verify(bounded(t)), "connection refused", string(g.Settings.Password.Expose()))
}

// Who accepts and says nothing is not waited for any longer than the context says.
func hungConnection(t *testing.T, g Target) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	need(t, err)
	defer l.Close()
	for _, try := range []func(context.Context, database.Settings) error{
		func(ctx context.Context, s database.Settings) error { return g.open(t, s).Verify(ctx) },
		func(ctx context.Context, s database.Settings) error {
			return g.Plugin.Rotate(ctx, s, redact.New([]byte("x")), nil)
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		began := time.Now()
		fails(t, try(ctx, g.At(l.Addr().String())), "in time")
		cancel()
		if took := time.Since(began); took > patience/2 {
			t.Errorf("waited for %v", took)
		}
	}
}

// A rotation ends with the new password, wherever an earlier one has stopped.
func rotation(t *testing.T, g Target) {
	s := g.NewRoot(t)
	user, old, next := s.Username, string(s.Password.Expose()), redact.New([]byte("Next0password1"))
	for range 2 { // the second time the old one is not the user's any more
		need(t, g.Plugin.Rotate(bounded(t), s, next, nil))
		need(t, g.Login(bounded(t), user, "Next0password1"))
		if g.Login(bounded(t), user, old) == nil {
			t.Error("the old password logs in")
		}
	}
	err := g.Plugin.Rotate(bounded(t), s, redact.New([]byte("Other0password")), nil)
	fails(t, err, "refuses", "Other0password")
	need(t, g.Login(bounded(t), user, "Next0password1"))
}

// Of rotations that run at once from the same password, all that say so have succeeded,
// and one of their passwords is the user's.
func rotationsAtOnce(t *testing.T, g Target) {
	s := g.NewRoot(t)
	var all sync.WaitGroup
	errs := make([]error, 4)
	password := func(i int) string { return "Rotated0password" + string(rune('a'+i)) }
	for i := range errs {
		all.Go(func() { errs[i] = g.Plugin.Rotate(bounded(t), s, redact.New([]byte(password(i))), nil) })
	}
	all.Wait()
	logins := 0
	for i, err := range errs {
		if g.Login(bounded(t), s.Username, password(i)) == nil {
			logins++
			need(t, err)
		} else if err == nil {
			t.Errorf("rotation %d succeeded, and its password was taken back", i)
		}
	}
	if logins != 1 {
		t.Errorf("%d passwords log in, want 1: %v", logins, errs)
	}
}

// No password is in the log of the server.
func silence(t *testing.T, g Target) {
	c, a := g.open(t, g.Settings), g.account(t, "Never0logged1word")
	need(t, c.Create(bounded(t), a))
	if !g.Logged(t, a.Name) {
		t.Error("the log does not show who was made, so it proves nothing")
	}
	root := g.NewRoot(t)
	need(t, g.Plugin.Rotate(bounded(t), root, redact.New([]byte("Never0logged2word")), nil))
	need(t, c.Drop(bounded(t), a.Name, nil))
	for _, secret := range []string{"Never0logged1word", "Never0logged2word"} {
		if g.Logged(t, secret) {
			t.Error("the log shows a password")
		}
	}
}
