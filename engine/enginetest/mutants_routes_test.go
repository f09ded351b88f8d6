package enginetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// shelf is a backend that keeps the contract: a record at each path.
type shelf struct{ routes []engine.Route }

func (shelf) Type() string                                       { return "shelf" }
func (shelf) Summary() string                                    { return "records" }
func (s shelf) Routes(map[string]string) ([]engine.Route, error) { return s.routes, nil }

type shelfRead struct {
	Path string `path:"path" doc:"path of the record"`
}

type shelfWrite struct {
	Path  string      `path:"path" doc:"path of the record"`
	Value engine.Text `json:"value" doc:"what to keep"`
}

type shelfAnswer struct {
	Value string    `json:"value"`
	At    time.Time `json:"at"`
}

func (a *shelfAnswer) Committed(c engine.Commit) { a.At = c.Time }

type (
	shelfReads  = func(*engine.Call, *shelfRead) (*shelfAnswer, error)
	shelfWrites = func(*engine.Call, *shelfWrite) (*shelfAnswer, error)
)

var (
	shelfReadRoute  = engine.Route{Verb: engine.VerbRead, Path: "{path...}", Summary: "read a record"}
	shelfWriteRoute = engine.Route{Verb: engine.VerbWrite, Path: "{path...}", Writes: true, Summary: "write a record"}
)

func readShelf(c *engine.Call, r *shelfRead) (*shelfAnswer, error) {
	p, err := engine.ParsePath(r.Path, 0)
	if err != nil {
		return nil, err
	}
	value, err := c.Record(p)
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, &engine.NotFoundError{What: "record"}
	}
	return &shelfAnswer{Value: string(value), At: c.Now()}, nil
}

func writeShelf(c *engine.Call, r *shelfWrite) (*shelfAnswer, error) {
	p, err := engine.ParsePath(r.Path, 0)
	if err != nil {
		return nil, err
	}
	if _, err := c.Record(p); err != nil {
		return nil, err
	}
	if len(r.Value) > 1000 {
		return nil, &engine.TooLargeError{What: "record", Bytes: len(r.Value), Limit: 1000}
	}
	return &shelfAnswer{}, c.PutRecord(p, []byte(r.Value))
}

func shelfOf(read shelfReads, write shelfWrites) shelf {
	return shelf{[]engine.Route{engine.NewRoute(shelfReadRoute, read), engine.NewRoute(shelfWriteRoute, write)}}
}

func stockShelf(t testing.TB, s *Store) {
	tx := s.Begin(Mount)
	if err := errors.Join(tx.PutRecord(engine.Path{"a", "b"}, []byte("v")), tx.Commit()); err != nil {
		t.Fatal(err)
	}
}

func tryShelf(t *testing.T, s shelf, more ...Ask) {
	TestRoutes(t, s, RouteOptions{Prepare: stockShelf}, append(more, Asking(engine.VerbRead, "a/b", ""),
		Asking(engine.VerbRead, "none", ""), Asking(engine.VerbWrite, "a/b", `{"value":"x"}`))...)
}

// A good table passes.
func TestGoodRoutes(t *testing.T) { tryShelf(t, shelfOf(readShelf, writeShelf)) }

func mutateReads(read func(shelfReads) shelfReads) func(*testing.T) {
	return func(t *testing.T) { tryShelf(t, shelfOf(read(readShelf), writeShelf)) }
}

func mutateWrites(write func(shelfWrites) shelfWrites) func(*testing.T) {
	return func(t *testing.T) { tryShelf(t, shelfOf(readShelf, write(writeShelf))) }
}

// withRoute is the good table with one route more, and asks for it.
func withRoute(r engine.Route, asks ...Ask) func(*testing.T) {
	return func(t *testing.T) {
		good := shelfOf(readShelf, writeShelf)
		good.routes = append(good.routes, r)
		tryShelf(t, good, asks...)
	}
}

// routeMutants break one promise of engine.Route each.
var routeMutants = map[string]func(*testing.T){
	"route without summary": withRoute(engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: "x/{path}"}, readShelf),
		Asking(engine.VerbDelete, "x/y", "")),
	"route without doc": withRoute(engine.NewRoute(engine.Route{Verb: engine.VerbPatch, Path: "patch", Summary: "change"},
		func(*engine.Call, *struct {
			F string `json:"f"`
		}) (*struct{}, error) {
			return nil, nil
		}), Asking(engine.VerbPatch, "patch", "")),
	"route with another's pattern": withRoute(engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "{other...}", Summary: "read"},
		func(*engine.Call, *struct {
			Other string `path:"other" doc:"other"`
		}) (*struct{}, error) {
			return nil, nil
		})),
	"route with a pattern that is none": withRoute(engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "a//b", Summary: "list"},
		func(*engine.Call, *struct{}) (*struct{}, error) { return nil, nil })),
	"route that nobody asks": withRoute(engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "list", Summary: "list"},
		func(*engine.Call, *struct{}) (*struct{}, error) { return nil, nil })),
	"route without its verb": withRoute(engine.NewRoute(engine.Route{Verb: 9, Path: "x", Summary: "do"},
		func(*engine.Call, *struct{}) (*struct{}, error) { return nil, nil })),
	"route that reads and writes": mutateReads(func(h shelfReads) shelfReads {
		return func(c *engine.Call, r *shelfRead) (*shelfAnswer, error) {
			if err := c.PutRecord(engine.Path{"seen"}, nil); err != nil {
				return nil, err
			}
			return h(c, r)
		}
	}),
	"route that is never the same": mutateReads(func(h shelfReads) shelfReads {
		var runs atomic.Uint64
		return func(c *engine.Call, r *shelfRead) (*shelfAnswer, error) {
			out, err := h(c, r)
			if err == nil {
				out.Value += fmt.Sprint(runs.Add(1))
			}
			return out, err
		}
	}),
	"route that wraps errors": mutateWrites(func(h shelfWrites) shelfWrites {
		return func(c *engine.Call, r *shelfWrite) (*shelfAnswer, error) {
			out, err := h(c, r)
			if err != nil {
				return nil, fmt.Errorf("writing: %w", err)
			}
			return out, nil
		}
	}),
	"route that swallows errors": mutateWrites(func(h shelfWrites) shelfWrites {
		return func(c *engine.Call, r *shelfWrite) (*shelfAnswer, error) {
			if _, err := c.Record(engine.Path{"p"}); err != nil {
				return &shelfAnswer{}, nil // nil of all things: that is the mutation
			}
			return h(c, r)
		}
	}),
	"route whose existence check wraps errors": func(t *testing.T) {
		good := shelfOf(readShelf, writeShelf)
		good.routes[1] = engine.WithExists(good.routes[1], func(c *engine.Call, _ *shelfWrite) (bool, error) {
			if _, err := c.Record(engine.Path{"p"}); err != nil {
				return false, fmt.Errorf("looking: %w", err)
			}
			return true, nil
		})
		tryShelf(t, good)
	},
	"route that panics on a path": mutateReads(func(h shelfReads) shelfReads {
		return func(c *engine.Call, r *shelfRead) (*shelfAnswer, error) {
			if strings.Contains(r.Path, "\xff") {
				panic("not UTF-8")
			}
			return h(c, r)
		}
	}),
	"route that panics on a value": mutateWrites(func(h shelfWrites) shelfWrites {
		return func(c *engine.Call, r *shelfWrite) (*shelfAnswer, error) {
			if r.Value == "-1" {
				panic("negative")
			}
			return h(c, r)
		}
	}),
	"route that tells the request": mutateWrites(func(h shelfWrites) shelfWrites {
		return func(c *engine.Call, r *shelfWrite) (*shelfAnswer, error) {
			if strings.Contains(string(r.Value), "\n") {
				return nil, &engine.InvalidError{Why: "no line feeds: " + string(r.Value)}
			}
			return h(c, r)
		}
	}),
	"route that warns of the request": mutateReads(func(h shelfReads) shelfReads {
		return func(c *engine.Call, r *shelfRead) (*shelfAnswer, error) {
			out, err := h(c, r)
			if _, missing := err.(*engine.NotFoundError); missing {
				c.Warn("nothing at %s", r.Path)
				return &shelfAnswer{}, nil
			}
			return out, err
		}
	}),
	"route with an error of its own": mutateReads(func(h shelfReads) shelfReads {
		return func(c *engine.Call, r *shelfRead) (*shelfAnswer, error) {
			out, err := h(c, r)
			var missing *engine.NotFoundError
			if errors.As(err, &missing) {
				return nil, errors.New("nothing there")
			}
			return out, err
		}
	}),
	"route that stages what is impossible": mutateWrites(func(h shelfWrites) shelfWrites {
		return func(c *engine.Call, r *shelfWrite) (*shelfAnswer, error) {
			if err := c.PurgeSecret(engine.Path{"none"}); err != nil {
				return nil, err
			}
			return h(c, r)
		}
	}),
	"route that never writes": mutateWrites(func(shelfWrites) shelfWrites {
		return func(c *engine.Call, r *shelfWrite) (*shelfAnswer, error) { return &shelfAnswer{}, nil }
	}),
	"route whose answer counts commits": func(t *testing.T) {
		good := shelfOf(readShelf, writeShelf)
		good.routes[1] = engine.NewRoute(shelfWriteRoute, func(c *engine.Call, r *shelfWrite) (*countingAnswer, error) {
			_, err := writeShelf(c, r)
			return &countingAnswer{}, err
		})
		tryShelf(t, good)
	},
	"route whose answer cannot be spelled": func(t *testing.T) {
		good := shelfOf(readShelf, writeShelf)
		good.routes[0] = engine.NewRoute(shelfReadRoute, func(c *engine.Call, r *shelfRead) (*unspellable, error) {
			_, err := readShelf(c, r)
			return &unspellable{}, err
		})
		tryShelf(t, good)
	},
	"transcript that differs": func(t *testing.T) {
		playText(t, "A story.\n-- read a --\n-- answer --\nsomething else\n")
	},
	"transcript with a step that fails": func(t *testing.T) {
		playText(t, "A story.\n-- read a --\n-- read a --\n-- answer --\n*engine.NotFoundError: no such record\n")
	},
	"transcript that pins nothing": func(t *testing.T) { playText(t, "A story.\n-- write a --\n{\"value\":\"x\"}\n") },
	"transcript with an unknown step": func(t *testing.T) {
		playText(t, "A story.\n-- wait --\n-- read a --\n-- answer --\n*engine.NotFoundError: no such record\n")
	},
}

// countingAnswer is told of a commit and does not take the last word for it.
type countingAnswer struct {
	Told int `json:"told"`
}

func (a *countingAnswer) Committed(engine.Commit) { a.Told++ }

type unspellable struct {
	F func() `json:"f"`
}

func playText(t *testing.T, text string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "story.txt")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	TestTranscripts(t, shelfOf(readShelf, writeShelf), name)
}

// A transcript that says what is so passes.
func TestGoodTranscript(t *testing.T) {
	playText(t, "A story.\n-- read a --\n-- answer --\n*engine.NotFoundError: no such record\n"+
		"-- advance 1s --\n-- write a --\n{\"value\":\"x\"}\n-- read a --\n-- answer --\n"+
		"{\n \"data\": {\n  \"value\": \"x\",\n  \"at\": \"2026-01-01T00:00:01Z\"\n }\n}\n-- list a --\n-- answer --\nno route has this verb\n")
}
