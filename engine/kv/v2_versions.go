package kv

import "github.com/conclave-secrets/conclave/engine"

type versionsRequest struct {
	Path     string      `path:"path" doc:"path of the secret"`
	Versions engine.Ints `json:"versions" doc:"numbers of the versions"`
}

// versionRoutes change versions. What cannot be done to a version because it is
// gone is no error: clients repeat these calls, and rely on that.
func (k v2) versionRoutes() []engine.Route {
	route := func(name, summary, none string, change engine.Change) engine.Route {
		return engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: name + "/{path...}", Writes: true, Summary: summary,
			Description: "Versions that are not there are passed over."},
			func(c *engine.Call, r *versionsRequest) (*struct{}, error) {
				if len(r.Versions) == 0 {
					return nil, &engine.InvalidError{Why: none}
				}
				numbers := make([]uint64, len(r.Versions))
				for i, n := range r.Versions {
					var err error
					if numbers[i], err = count("a version's number", engine.Int(n)); err != nil {
						return nil, err
					}
				}
				return nil, k.change(c, r.Path, change, numbers, skipUnfit)
			})
	}
	// The words for a request without numbers are those that Vault's clients show.
	return []engine.Route{
		route("delete", "delete versions; undelete brings them back", "No version number provided", engine.Delete),
		route("undelete", "bring deleted versions back", "No version number provided", engine.Undelete),
		route("destroy", "remove the data of versions for good", "no version number provided", engine.Destroy),
	}
}
