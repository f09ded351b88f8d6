package cubbyhole

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
)

func stock(t testing.TB, store *enginetest.Store) {
	for _, token := range []string{"token", "other"} {
		for _, path := range []string{"a", "a/b", "c"} {
			if err := enginetest.Answer(store, Backend{}, enginetest.RouteOptions{Token: token},
				enginetest.Asking(engine.VerbWrite, path, fmt.Sprintf(`{"whose":%q}`, token))); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func asks() []enginetest.Ask {
	return []enginetest.Ask{
		enginetest.Asking(engine.VerbRead, "a/b", ""),
		enginetest.Asking(engine.VerbRead, "none", ""),
		enginetest.Asking(engine.VerbWrite, "a", `{"k":"v","n":1}`),
		enginetest.Asking(engine.VerbWrite, "new", `{"k":{}}`),
		enginetest.Asking(engine.VerbDelete, "a", ""),
		enginetest.Asking(engine.VerbDelete, "none", ""),
		enginetest.Asking(engine.VerbList, "", ""),
		enginetest.Asking(engine.VerbList, "a?after=a&limit=1", ""),
		enginetest.Asking(engine.VerbList, "none", ""),
	}
}

// The routes keep the contract of a route.
func TestRoutes(t *testing.T) {
	enginetest.TestRoutes(t, Backend{MaxValueBytes: 64 << 10}, enginetest.RouteOptions{Prepare: stock}, asks()...)
}

func FuzzRoutes(f *testing.F) {
	enginetest.FuzzRoutes(f, Backend{MaxValueBytes: 64 << 10}, enginetest.RouteOptions{Prepare: stock}, asks()...)
}

// What Vault's clients rely on, as stories.
func TestTranscripts(t *testing.T) {
	enginetest.TestTranscripts(t, Backend{}, "testdata/*.txt")
}

// serve answers a request by hand, for a caller and a transaction of the test's.
func serve(b Backend, tx engine.Tx, token string, verb engine.Verb, path string, body engine.Object) error {
	table, err := b.Routes(nil)
	if err != nil {
		return err
	}
	match, _ := engine.CompileRoutes(table).Find(verb, path)
	in, err := match.Bind(engine.Input{Body: body})
	if err != nil {
		return err
	}
	call := &engine.Call{Tx: tx, Caller: engine.Caller{TokenID: token}}
	if _, err := match.Creates(call, in); err != nil {
		return err
	}
	_, err = match.Serve(call, in)
	return err
}

var every = []engine.Verb{engine.VerbRead, engine.VerbWrite, engine.VerbDelete, engine.VerbList}

// Whatever the request, nothing is touched but what lies below the caller's token,
// and what is written belongs to it.
func TestOnlyOnesOwn(t *testing.T) {
	store := enginetest.NewStore(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	stock(t, store)
	for _, verb := range every {
		for _, path := range []string{"a", "other/a", "../other/a", "..", "./a", "a/../../other/a", "/other/a", "//other", "other", "other\x00/a"} {
			tx := store.Begin(enginetest.Mount)
			tx.Token = "token"
			p := &enginetest.Probe{Tx: tx}
			err := serve(Backend{}, p, "token", verb, path, engine.Object{"k": []byte(`1`)})
			for _, touched := range p.Touched {
				if len(touched) == 0 || touched[0] != "token" {
					t.Errorf("%v %q touches %q", verb, path, touched)
				}
			}
			for _, staged := range p.Staged {
				if staged.Call != "PutOwned" && staged.Call != "DeleteRecord" {
					t.Errorf("%v %q stages %s, which no token owns", verb, path, staged.Call)
				}
			}
			if err != nil && strings.Contains(err.Error(), "other") {
				t.Errorf("%v %q: the error repeats the path: %v", verb, path, err)
			}
		}
	}
}

// A request without a token is refused before anything is looked at.
func TestNoToken(t *testing.T) {
	for _, verb := range every {
		p := &enginetest.Probe{Tx: enginetest.NewStore(time.Unix(0, 0)).Begin(enginetest.Mount)}
		var invalid *engine.InvalidError
		if err := serve(Backend{}, p, "", verb, "a", engine.Object{"k": []byte(`1`)}); !errors.As(err, &invalid) || p.Calls != 0 {
			t.Errorf("%v: got %v after %d calls, want an InvalidError", verb, err, p.Calls)
		}
	}
}

// A value may be as large as the limit says, to the byte, and as deep as any
// reader can take.
func TestLimits(t *testing.T) {
	b := Backend{MaxValueBytes: 30, MaxPathBytes: 10}
	store := enginetest.NewStore(time.Unix(0, 0))
	write := func(path, value string) error {
		tx := store.Begin(enginetest.Mount)
		tx.Token = "token"
		return serve(b, tx, "token", engine.VerbWrite, path, engine.Object{"k": []byte(value)})
	}
	encoded, err := engine.EncodeJSON(engine.Object{"k": []byte(`""`)})
	if err != nil {
		t.Fatal(err)
	}
	room := b.MaxValueBytes - len(encoded)
	if err := write("0123456789", `"`+strings.Repeat("x", room)+`"`); err != nil {
		t.Errorf("at the limits: %v", err)
	}
	var (
		large   *engine.TooLargeError
		invalid *engine.InvalidError
		path    *engine.PathError
	)
	if err := write("a", `"`+strings.Repeat("x", room+1)+`"`); !errors.As(err, &large) {
		t.Errorf("a byte too large: got %v", err)
	}
	if err := write("01234567890", `1`); !errors.As(err, &path) {
		t.Errorf("a path too long: got %v", err)
	}
	if err := write("a", strings.Repeat("[", engine.MaxDepth+1)+strings.Repeat("]", engine.MaxDepth+1)); !errors.As(err, &invalid) {
		t.Errorf("a value too deep: got %v", err)
	}
}

// A listing that is cut short says so, unless the request asked for that.
func TestListingIsBounded(t *testing.T) {
	b := Backend{MaxKeys: 2}
	store := enginetest.NewStore(time.Unix(0, 0))
	stock(t, store) // "a", "a/" and "c"
	table, err := b.Routes(nil)
	if err != nil {
		t.Fatal(err)
	}
	match, _ := engine.CompileRoutes(table).Find(engine.VerbList, "")
	for limit, warnings := range map[engine.Int]int{0: 1, -1: 1, 1: 0, 2: 1, 9: 1} {
		call := &engine.Call{Tx: store.Begin(enginetest.Mount), Caller: engine.Caller{TokenID: "token"}}
		answer, err := match.Serve(call, &engine.ListRequest{Limit: limit})
		if err != nil || len(answer.Warnings) != warnings {
			t.Errorf("limit %d: warnings %q %v, want %d", limit, answer.Warnings, err, warnings)
		}
	}
}
