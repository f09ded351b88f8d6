package kv

import (
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

// versionAnswer describes one version, as every answer about a version does.
type versionAnswer struct {
	CreatedTime    string            `json:"created_time"`
	CustomMetadata map[string]string `json:"custom_metadata"` // null: none
	DeletionTime   string            `json:"deletion_time"`   // "": none; it may lie ahead
	Destroyed      bool              `json:"destroyed"`
	Version        uint64            `json:"version"`
}

func describeVersion(n uint64, v *engine.Version, custom map[string]string) versionAnswer {
	return versionAnswer{CreatedTime: spell(v.Created), CustomMetadata: custom,
		DeletionTime: spell(v.DeletedAt), Destroyed: v.Destroyed, Version: n}
}

// spell writes a time as RFC 3339 with nanoseconds, in UTC; the zero time is "".
func spell(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// writeAnswer describes a version that was written. Its times come with the commit.
type writeAnswer struct {
	versionAnswer
	ttl time.Duration
}

// Committed implements engine.Committer.
func (a *writeAnswer) Committed(c engine.Commit) {
	a.CreatedTime = spell(c.Time)
	if a.ttl > 0 {
		a.DeletionTime = spell(c.Time.Add(a.ttl))
	}
}

type dataRead struct {
	Path    string     `path:"path" doc:"path of the secret"`
	Version engine.Int `json:"version" doc:"number of the version; 0: the current one"`
}

type dataAnswer struct {
	Data     engine.Object `json:"data"` // null: deleted or destroyed
	Metadata versionAnswer `json:"metadata"`
}

type writeOptions struct {
	CAS *engine.Int `json:"cas"`
}

type dataWrite struct {
	Path    string        `path:"path" doc:"path of the secret"`
	Data    engine.Object `json:"data" doc:"the secret's fields"`
	Options writeOptions  `json:"options" doc:"cas: the version that must be current, 0 for a secret that must not exist"`
}

type secretPath struct {
	Path string `path:"path" doc:"path of the secret"`
}

func (k v2) dataRoutes() []engine.Route {
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "data/{path...}", Summary: "read a version of a secret"}, k.readData),
		engine.WithExists(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "data/{path...}", Writes: true,
			Summary: "write a new version of a secret"}, k.writeData),
			func(c *engine.Call, r *dataWrite) (bool, error) { return k.exists(c, r.Path) }),
		engine.NewRoute(engine.Route{Verb: engine.VerbPatch, Path: "data/{path...}", Writes: true,
			Summary:     "write a new version with some fields changed",
			Description: "A JSON merge patch (RFC 7396) on the current version: null removes a field."}, k.patchData),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: "data/{path...}", Writes: true,
			Summary: "delete the current version; undelete brings it back"},
			func(c *engine.Call, r *secretPath) (*struct{}, error) {
				return nil, k.change(c, r.Path, engine.Delete, nil, skipUnfit)
			}),
	}
}

// look finds the version that a request is about, in whatever state, and says
// that it is missing if its data cannot be read.
func (k v2) look(c *engine.Call, path string, number engine.Int) (*engine.Version, versionAnswer, error) {
	n, err := count("version", number)
	if err != nil {
		return nil, versionAnswer{}, err
	}
	p, err := k.path(path)
	if err != nil {
		return nil, versionAnswer{}, err
	}
	n, v, err := version(c, p, n)
	if err != nil {
		return nil, versionAnswer{}, err
	}
	s, err := settings(c, p)
	if err != nil {
		return nil, versionAnswer{}, err
	}
	if v.Deleted || v.Destroyed {
		c.Missing()
	}
	return v, describeVersion(n, v, s.CustomMetadata), nil
}

func (k v2) readData(c *engine.Call, r *dataRead) (*dataAnswer, error) {
	v, about, err := k.look(c, r.Path, r.Version)
	if err != nil || v.Deleted || v.Destroyed {
		return &dataAnswer{Metadata: about}, err
	}
	object, err := objectOf(v)
	if err != nil {
		return nil, err
	}
	return &dataAnswer{Data: object, Metadata: about}, nil
}

// errNoData, in the words that Vault's clients show.
func errNoData() error { return &engine.InvalidError{Why: "no data provided"} }

func (k v2) writeData(c *engine.Call, r *dataWrite) (*writeAnswer, error) {
	if r.Data == nil {
		return nil, errNoData()
	}
	data, err := fieldsOf(r.Data)
	if err != nil {
		return nil, err
	}
	value, err := k.encode(data)
	if err != nil {
		return nil, err
	}
	return k.appendData(c, r, func(engine.Path, *engine.Head) ([]byte, error) { return value, nil })
}

func (k v2) patchData(c *engine.Call, r *dataWrite) (*writeAnswer, error) {
	if r.Data == nil {
		return nil, errNoData()
	}
	if err := engine.CheckObject(r.Data); err != nil {
		return nil, err
	}
	return k.appendData(c, r, func(p engine.Path, head *engine.Head) ([]byte, error) {
		object, err := current(c, p, head)
		if err != nil {
			return nil, err
		}
		if err := merge(object, r.Data); err != nil {
			return nil, err
		}
		data, err := fieldsOf(object)
		if err != nil {
			return nil, err
		}
		return k.encode(data)
	})
}

// current is the data of the current version. There is nothing to patch in a
// secret without one, or whose current version is deleted or destroyed.
func current(c *engine.Call, p engine.Path, head *engine.Head) (engine.Object, error) {
	none := &engine.NotFoundError{What: "secret"}
	if head == nil || head.Current == 0 {
		return nil, none
	}
	v, err := c.Version(p, head.Current)
	if err != nil {
		return nil, err
	}
	if v == nil || v.Deleted || v.Destroyed {
		return nil, none
	}
	return objectOf(v)
}

// appendData writes a version as the request's options allow.
func (k v2) appendData(c *engine.Call, r *dataWrite, make func(engine.Path, *engine.Head) ([]byte, error)) (*writeAnswer, error) {
	var cas *uint64
	if r.Options.CAS != nil {
		n, err := count("cas", *r.Options.CAS)
		if err != nil {
			return nil, err
		}
		cas = &n
	}
	done, err := k.append(c, r.Path, cas, 0, make)
	if err != nil {
		return nil, err
	}
	return &writeAnswer{versionAnswer{CustomMetadata: done.settings.CustomMetadata, Version: done.number}, done.ttl}, nil
}
