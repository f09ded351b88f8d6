// Package cubbyhole is the engine for what a token keeps for itself: values that
// no other token can read, whatever its policies, and that go with the token.
//
// Invariant: every path this package touches begins with the caller's
// engine.Caller.TokenID, which no request can name. A value is a record that the
// token's lease owns (engine.Tx.PutOwned), so when the token ends, by whatever
// way, it is gone; nothing here has to remember it.
//
// What never lives here: wrapped answers, which are core's; versions; sharing.
// Start at Backend.
package cubbyhole

import (
	"github.com/conclave-secrets/conclave/engine"
)

// Backend is the engine as it is mounted. The zero value has the default limits.
type Backend struct {
	// MaxValueBytes bounds one value, encoded. 0: 1 MiB.
	MaxValueBytes int
	// MaxPathBytes bounds a path. 0: engine.MaxPathBytes.
	MaxPathBytes int
	// MaxKeys bounds a listing. 0: 1,048,576.
	MaxKeys int
}

var _ engine.Backend = Backend{}

// Type implements engine.Backend.
func (Backend) Type() string { return "cubbyhole" }

// Summary implements engine.Backend.
func (Backend) Summary() string { return "private values of each token, gone when the token is" }

// Routes implements engine.Backend. There are no options.
func (b Backend) Routes(map[string]string) ([]engine.Route, error) {
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "{path...}", Summary: "read a value"}, b.read),
		engine.WithExists(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "{path...}", Writes: true,
			Summary: "write a value, in the place of what is there"}, b.write),
			func(c *engine.Call, r *writeRequest) (bool, error) {
				_, there, err := b.value(c, r.Path)
				return there, err
			}),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: "{path...}", Writes: true, Summary: "remove a value"}, b.delete),
		engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "{path*}", Summary: "list the values and directories in a directory"}, b.list),
	}, nil
}

type pathRequest struct {
	Path string `path:"path" doc:"path of the value"`
}

type writeRequest struct {
	Path string        `path:"path" doc:"path of the value"`
	Data engine.Object `body:"object"`
}

func (b Backend) maxValue() int {
	if b.MaxValueBytes == 0 {
		return 1 << 20
	}
	return b.MaxValueBytes
}

func (b Backend) maxKeys() int {
	if b.MaxKeys == 0 {
		return 1 << 20
	}
	return b.MaxKeys
}

// own puts a path below the caller's token.
func own(c *engine.Call, p engine.Path) (engine.Path, error) {
	if c.Caller.TokenID == "" {
		return nil, &engine.InvalidError{Why: "a cubbyhole belongs to a token, and the request has none"}
	}
	return append(engine.Path{c.Caller.TokenID}, p...), nil
}

func (b Backend) path(c *engine.Call, s string) (engine.Path, error) {
	p, err := engine.ParsePath(s, b.MaxPathBytes)
	if err != nil {
		return nil, err
	}
	return own(c, p)
}

// value reads what is at a path, and tells whether anything is.
func (b Backend) value(c *engine.Call, path string) (value engine.Object, there bool, err error) {
	p, err := b.path(c, path)
	if err != nil {
		return nil, false, err
	}
	there, err = engine.GetJSON(c, p, &value)
	return value, there, err
}

func (b Backend) read(c *engine.Call, r *pathRequest) (*engine.Object, error) {
	value, there, err := b.value(c, r.Path)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, &engine.NotFoundError{What: "value"}
	}
	return &value, nil
}

func (b Backend) write(c *engine.Call, r *writeRequest) (*struct{}, error) {
	p, err := b.path(c, r.Path)
	if err != nil {
		return nil, err
	}
	if len(r.Data) == 0 {
		return nil, &engine.InvalidError{Why: "missing data fields"}
	}
	if err := engine.CheckObject(r.Data); err != nil {
		return nil, err
	}
	encoded, err := engine.EncodeJSON(r.Data)
	if err != nil {
		return nil, err
	}
	if len(encoded) > b.maxValue() {
		return nil, &engine.TooLargeError{What: "value", Bytes: len(encoded), Limit: b.maxValue()}
	}
	return nil, c.PutOwned(p, encoded)
}

func (b Backend) delete(c *engine.Call, r *pathRequest) (*struct{}, error) {
	p, err := b.path(c, r.Path)
	if err != nil {
		return nil, err
	}
	return nil, c.DeleteRecord(p)
}

func (b Backend) list(c *engine.Call, r *engine.ListRequest) (*engine.ListAnswer, error) {
	dir, err := engine.ParseDirectory(r.Path, b.MaxPathBytes)
	if err != nil {
		return nil, err
	}
	if dir, err = own(c, dir); err != nil {
		return nil, err
	}
	names, err := r.Page(c, b.maxKeys(), func(after string, limit int) ([]string, bool, error) { return c.Records(dir, after, limit) })
	return &engine.ListAnswer{Keys: names}, err
}
