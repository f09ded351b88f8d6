package authtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
)

// StartOfTime is the log time of a new mount.
var StartOfTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// mountID is what the store calls the mount.
const mountID = "mount"

// A Request is one call, as a transport would pass it on.
type Request struct {
	Verb engine.Verb
	Path string
	Body string // a JSON object; "": none
	// Address of the caller; zero: 192.0.2.1.
	Address netip.Addr
}

// Write, Read, List and Delete make requests of those verbs.
func Write(path, body string) Request { return Request{Verb: engine.VerbWrite, Path: path, Body: body} }

// Read makes a request to read.
func Read(path string) Request { return Request{Verb: engine.VerbRead, Path: path} }

// List makes a request to list.
func List(path string) Request { return Request{Verb: engine.VerbList, Path: path} }

// Delete makes a request to delete.
func Delete(path string) Request { return Request{Verb: engine.VerbDelete, Path: path} }

// A Mount is a backend mounted over the reference store. It serves many requests
// at a time.
type Mount struct {
	Store  *enginetest.Store
	Info   engine.Mount
	Routes *engine.Routes
}

// NewMount mounts a backend with options at auth/TYPE/.
func NewMount(t testing.TB, b engine.Backend, options map[string]string) *Mount {
	t.Helper()
	routes, err := b.Routes(options)
	if err != nil {
		t.Fatal(err)
	}
	return &Mount{
		Store: enginetest.NewStore(StartOfTime), Routes: engine.CompileRoutes(routes),
		Info: engine.Mount{ID: mountID, Path: "auth/" + b.Type() + "/", Accessor: "auth_" + b.Type(), Type: b.Type(),
			Options: options, DefaultTTL: time.Hour, MaxTTL: 24 * time.Hour},
	}
}

// Fork returns a mount over another store with the same contents.
func (m *Mount) Fork() *Mount {
	fork := *m
	fork.Store = m.Store.Fork()
	return &fork
}

// Dice returns random bytes that only the seed decides on.
func Dice(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

// ErrNoRoute: the mount has no such path, or not for this verb.
var ErrNoRoute = errors.New("no such route")

// Bound is a request that found its route.
type Bound struct {
	Match engine.Match
	In    any
	req   Request
}

// Bind finds the route of a request and decodes its body.
func (m *Mount) Bind(r Request) (*Bound, error) {
	match, _ := m.Routes.Find(r.Verb, r.Path)
	if match.Route == nil {
		return nil, ErrNoRoute
	}
	var in engine.Input
	if r.Body != "" {
		if err := json.Unmarshal([]byte(r.Body), &in.Body); err != nil {
			return nil, fmt.Errorf("reading a body: %w", err)
		}
	}
	bound, err := match.Bind(in)
	if err != nil {
		return nil, err
	}
	return &Bound{match, bound, r}, nil
}

// Run runs a request once, on tx.
func (m *Mount) Run(ctx context.Context, tx engine.Tx, dice io.Reader, b *Bound) (engine.Answer, error) {
	address := b.req.Address
	if !address.IsValid() {
		address = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	}
	call := &engine.Call{Tx: tx, Context: ctx, Mount: m.Info, Rand: dice, Caller: engine.Caller{Address: address}}
	return b.Match.Serve(call, b.In)
}

// Do serves a request: it runs until it commits or is refused, as core has it. A
// refusal that leaves a trace leaves it.
func (m *Mount) Do(r Request, dice io.Reader) (engine.Answer, error) {
	// A context of its own, that ends with the request.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		b, err := m.Bind(r)
		if err != nil {
			return engine.Answer{}, err
		}
		tx := m.Store.Begin(mountID)
		answer, err := m.Run(ctx, tx, dice, b)
		if err != nil {
			return engine.Answer{}, err
		}
		switch err := tx.Commit(); {
		case errors.Is(err, enginetest.ErrConflict):
			continue
		case err != nil:
			return engine.Answer{}, err
		case answer.Refusal != nil:
			return engine.Answer{}, answer.Refusal
		}
		return answer, nil
	}
}

// Must serves requests that have to succeed, and returns the last answer.
func (m *Mount) Must(t testing.TB, dice io.Reader, requests ...Request) (last engine.Answer) {
	t.Helper()
	for _, r := range requests {
		var err error
		if last, err = m.Do(r, dice); err != nil {
			t.Fatalf("%v %s: %v", r.Verb, r.Path, err)
		}
	}
	return last
}

// Data is an answer's data as a reader of the JSON sees it.
func Data(t testing.TB, a engine.Answer) map[string]any {
	t.Helper()
	if a.Data == nil {
		return nil
	}
	p, err := json.Marshal(a.Data)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(p, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
