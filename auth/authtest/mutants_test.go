package authtest

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

// toy is a small method that keeps the contract, but for one fault.
type toy struct{ fault string }

func (toy) Type() string    { return "toy" }
func (toy) Summary() string { return "A toy." }

type toyRequest struct {
	Name     string      `path:"name"`
	Password engine.Text `json:"password"`
}

type toyResponse struct {
	Name string `json:"name"`
}

func (b *toy) Routes(map[string]string) ([]engine.Route, error) {
	summary := "Log in"
	if b.fault == "no summary" {
		summary = ""
	}
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "login/{name}", Writes: true, Open: true, Parallel: b.fault != "in a lane", Summary: summary}, b.login),
		engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "user/{name}", Writes: true, Open: b.fault == "open", Summary: "Make a user"}, b.write),
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "user/{name}", Summary: "Read a user"}, b.read),
	}, nil
}

func (b *toy) path(name string) (engine.Path, error) {
	name, err := auth.FoldName("user", name)
	return engine.Path{"user", name}, err
}

func (b *toy) write(c *engine.Call, q *toyRequest) (*struct{}, error) {
	p, err := b.path(q.Name)
	if err != nil {
		return nil, err
	}
	hash, err := c.Hash(string(q.Password))
	if err != nil {
		return nil, err
	}
	if b.fault == "stores the secret" {
		hash = string(q.Password)
	}
	if b.fault == "quotes" && len(q.Password) > 20 {
		return nil, &engine.InvalidError{Why: "bad password " + string(q.Password)}
	}
	return nil, engine.PutJSON(c, p, hash)
}

func (b *toy) read(c *engine.Call, q *toyRequest) (*toyResponse, error) {
	p, err := b.path(q.Name)
	if err != nil {
		return nil, err
	}
	var hash string
	if _, err := engine.GetJSON(c, p, &hash); err != nil {
		if b.fault == "wraps errors" {
			return nil, fmt.Errorf("reading: %w", err)
		}
		return nil, err
	}
	if b.fault == "reads write" {
		if err := c.DeleteRecord(p); err != nil {
			return nil, err
		}
	}
	return &toyResponse{q.Name}, nil
}

var runs int

func (b *toy) login(c *engine.Call, q *toyRequest) (*struct{}, error) {
	if b.fault == "panics" && len(q.Password) > 1000 {
		panic("long")
	}
	p, err := b.path(q.Name)
	if err != nil {
		return nil, err
	}
	var want string
	found, err := engine.GetJSON(c, p, &want)
	if err != nil {
		return nil, err
	}
	if !found && b.fault == "less work" {
		return nil, refusedToy("nobody")
	}
	hash, err := c.Hash(string(q.Password))
	switch {
	case b.fault == "goes on after an error":
		if _, err := c.Hash("more"); err != nil {
			return nil, err
		}
		fallthrough
	case err != nil:
		if err != nil {
			return nil, err
		}
	}
	if !found && b.fault == "another error" {
		return nil, &engine.NotFoundError{What: "user"}
	}
	if hash != want && b.fault != "admits everybody" {
		return nil, refusedToy("wrong")
	}
	l := engine.Login{Alias: q.Name, DisplayName: auth.DisplayName(c.Mount, q.Name), Metadata: map[string]string{"name": q.Name}}
	switch runs++; b.fault {
	case "impure":
		l.Metadata["runs"] = fmt.Sprint(runs)
	case "tells the secret":
		l.Metadata["password"] = string(q.Password)
	case "no alias":
		l.Alias = ""
	}
	c.Login(l)
	return nil, nil
}

func refusedToy(why string) error {
	return &auth.CredentialError{Kind: auth.Invalid, Text: "invalid", Why: why}
}

// recorder notes failures in place of a test.
type recorder struct {
	testing.TB
	failed []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.failed = append(r.failed, fmt.Sprintf(format, args...))
}
func (r *recorder) Error(args ...any) { r.failed = append(r.failed, fmt.Sprint(args...)) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}
func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

// failing names the parts of the suite that find fault with a toy.
func failing(t *testing.T, b engine.Backend) (names []string) {
	spec := Spec{
		Backend: b, Prepare: []Request{Write("user/ann", `{"password":"the-secret"}`)},
		Good:     Write("login/ann", `{"password":"the-secret"}`),
		Wrong:    []Request{Write("login/ann", `{"password":"x"}`)},
		Unknown:  []Request{Write("login/eve", `{"password":"x"}`)},
		Requests: []Request{Read("user/ann"), Write("user/bob", `{"password":"y"}`)},
		Secrets:  []string{"the-secret"},
	}
	for _, part := range parts {
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			part.check(newSuite(r, spec), r)
		}()
		if <-done; len(r.failed) > 0 {
			names = append(names, part.name)
		}
	}
	return names
}

// The suite finds nothing in a method that keeps the contract, and finds each
// fault in the part that is meant to.
func TestSuiteFindsFaults(t *testing.T) {
	if found := failing(t, &toy{}); len(found) > 0 {
		t.Fatalf("the honest toy fails in %q", found)
	}
	for fault, part := range map[string]string{
		"no summary": "table", "in a lane": "table", "open": "table", "impure": "pure", "reads write": "pure",
		"wraps errors": "errors", "goes on after an error": "errors", "quotes": "hostile", "panics": "hostile", "no alias": "login", "admits everybody": "login",
		"less work": "who exists", "another error": "who exists", "stores the secret": "secret", "tells the secret": "secret",
	} {
		found := failing(t, &toy{fault})
		if !strings.Contains(strings.Join(found, "; "), part) {
			t.Errorf("%s: found by %q, want %q", fault, found, part)
		}
	}
}
