package kv

import (
	"encoding/json"
	"maps"
	"strconv"
	"time"

	"github.com/conclave-secrets/conclave/engine"
)

type metadataAnswer struct {
	CASRequired        bool                    `json:"cas_required"`
	CreatedTime        string                  `json:"created_time"`
	CurrentVersion     uint64                  `json:"current_version"`
	CustomMetadata     map[string]string       `json:"custom_metadata"` // null: none
	DeleteVersionAfter string                  `json:"delete_version_after"`
	MaxVersions        uint64                  `json:"max_versions"`
	OldestVersion      uint64                  `json:"oldest_version"` // 0: no version was pruned yet
	UpdatedTime        string                  `json:"updated_time"`
	Versions           map[string]versionState `json:"versions"` // by number
}

type versionState struct {
	CreatedTime  string `json:"created_time"`
	DeletionTime string `json:"deletion_time"` // "": none; it may lie ahead
	Destroyed    bool   `json:"destroyed"`
}

type metadataWrite struct {
	Path               string           `path:"path" doc:"path of the secret"`
	CASRequired        *engine.Bool     `json:"cas_required" doc:"every write must name the version it expects to be current"`
	CustomMetadata     *engine.Map      `json:"custom_metadata" doc:"up to 64 texts that describe the secret; they replace those it has"`
	DeleteVersionAfter *engine.Duration `json:"delete_version_after" doc:"time after which a new version deletes itself; 0: never"`
	MaxVersions        *engine.Int      `json:"max_versions" doc:"how many versions to keep; 0: what the mount says, or 10"`
}

type metadataPatch struct {
	metadataFields
	Body engine.Object `body:"object"`
}

// metadataFields are those of a patch: null sets a field back, and a null within
// the custom metadata removes a key.
type metadataFields struct {
	Path               string           `path:"path" doc:"path of the secret"`
	CASRequired        *engine.Bool     `json:"cas_required" doc:"every write must name the version it expects to be current"`
	CustomMetadata     textsPatch       `json:"custom_metadata" doc:"texts to set, or null to remove one; null removes all"`
	DeleteVersionAfter *engine.Duration `json:"delete_version_after" doc:"time after which a new version deletes itself; 0: never"`
	MaxVersions        *engine.Int      `json:"max_versions" doc:"how many versions to keep; 0: what the mount says, or 10"`
}

// textsPatch has texts to set, and nil for those to remove.
type textsPatch map[string]*engine.Text

// UnmarshalJSON implements json.Unmarshaler. Its errors quote nothing.
func (t *textsPatch) UnmarshalJSON(p []byte) error {
	var raw engine.Object // which bounds how many there are
	if err := json.Unmarshal(p, &raw); err != nil {
		return &engine.InvalidError{Why: "is no map of strings"}
	}
	*t = make(textsPatch, len(raw))
	for key, value := range raw {
		if string(value) == "null" {
			(*t)[key] = nil
			continue
		}
		text := new(engine.Text)
		if err := json.Unmarshal(value, text); err != nil {
			return &engine.InvalidError{Why: "is no map of strings"}
		}
		(*t)[key] = text
	}
	return nil
}

func (k v2) metadataRoutes() []engine.Route {
	return []engine.Route{
		engine.NewRoute(engine.Route{Verb: engine.VerbRead, Path: "metadata/{path...}",
			Summary: "describe a secret and its versions, without their data"}, k.readMetadata),
		engine.WithExists(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "metadata/{path...}", Writes: true,
			Summary: "change a secret's settings, before or after its first version"}, k.writeMetadata),
			func(c *engine.Call, r *metadataWrite) (bool, error) { return k.exists(c, r.Path) }),
		engine.NewRoute(engine.Route{Verb: engine.VerbPatch, Path: "metadata/{path...}", Writes: true,
			Summary:     "change some of a secret's settings",
			Description: "A JSON merge patch (RFC 7396): null sets a field back."}, k.patchMetadata),
		engine.NewRoute(engine.Route{Verb: engine.VerbDelete, Path: "metadata/{path...}", Writes: true,
			Summary: "remove a secret with all its versions, for good"},
			func(c *engine.Call, r *secretPath) (*struct{}, error) {
				p, err := k.path(r.Path)
				if err != nil {
					return nil, err
				}
				return nil, skipUnfit.or(purge(c, p))
			}),
	}
}

func (k v2) readMetadata(c *engine.Call, r *secretPath) (*metadataAnswer, error) {
	p, err := k.path(r.Path)
	if err != nil {
		return nil, err
	}
	return describeMetadata(c, p)
}

func describeMetadata(tx engine.Tx, p engine.Path) (*metadataAnswer, error) {
	d, err := describe(tx, p)
	if err != nil {
		return nil, err
	}
	out := &metadataAnswer{
		CASRequired: d.settings.CasRequired, CreatedTime: spell(d.head.Created), CurrentVersion: d.head.Current,
		CustomMetadata: d.settings.CustomMetadata, DeleteVersionAfter: d.settings.DeleteVersionAfter.AsDuration().String(),
		MaxVersions: d.own, UpdatedTime: spell(d.head.Updated), Versions: make(map[string]versionState, len(d.versions)),
	}
	if d.head.Oldest > 1 {
		out.OldestVersion = d.head.Oldest
	}
	for _, v := range d.versions {
		out.Versions[strconv.FormatUint(v.number, 10)] = versionState{spell(v.Created), spell(v.DeletedAt), v.Destroyed}
	}
	return out, nil
}

func (k v2) writeMetadata(c *engine.Call, r *metadataWrite) (*struct{}, error) {
	p, err := k.path(r.Path)
	if err != nil {
		return nil, err
	}
	change, err := changeOf(r.CASRequired, r.DeleteVersionAfter, r.MaxVersions)
	if err != nil {
		return nil, err
	}
	if r.CustomMetadata != nil {
		change.custom = func(map[string]string) map[string]string { return *r.CustomMetadata }
	}
	return nil, k.changeSettings(c, p, change)
}

// changeSettings stages a change of settings, and warns of one that has no effect.
func (k v2) changeSettings(c *engine.Call, p engine.Path, change metadataChange) error {
	if err := changeMetadata(c, p, change); err != nil {
		return err
	}
	if change.casRequired == nil || *change.casRequired {
		return nil
	}
	demands, err := readConfig(c)
	if err == nil && demands.CASRequired {
		c.Warn("cas_required is off for this secret, but the mount demands check-and-set of all.")
	}
	return err
}

func changeOf(cas *engine.Bool, after *engine.Duration, keep *engine.Int) (change metadataChange, err error) {
	if cas != nil {
		change.casRequired = new(bool(*cas))
	}
	if after != nil {
		change.deleteVersionAfter = new(time.Duration(*after))
	}
	if keep != nil {
		n, err := count("max_versions", *keep)
		if err != nil {
			return change, err
		}
		change.maxVersions = &n
	}
	return change, nil
}

func (k v2) patchMetadata(c *engine.Call, r *metadataPatch) (*struct{}, error) {
	p, err := k.path(r.Path)
	if err != nil {
		return nil, err
	}
	head, err := c.Head(p)
	if err != nil {
		return nil, err
	}
	if head == nil {
		return nil, &engine.NotFoundError{What: "secret"}
	}
	change, err := changeOf(orZero(r, "cas_required", r.CASRequired), orZero(r, "delete_version_after", r.DeleteVersionAfter),
		orZero(r, "max_versions", r.MaxVersions))
	if err != nil {
		return nil, err
	}
	switch {
	case r.isNull("custom_metadata"):
		change.custom = func(map[string]string) map[string]string { return nil }
	case r.CustomMetadata != nil:
		change.custom = r.mergeCustom
	}
	return nil, k.changeSettings(c, p, change)
}

func (r *metadataPatch) isNull(field string) bool { return string(r.Body[field]) == "null" }

// orZero is the value of a field of a patch, where null stands for zero.
func orZero[T any](r *metadataPatch, field string, value *T) *T {
	if r.isNull(field) {
		return new(T)
	}
	return value
}

func (r *metadataPatch) mergeCustom(old map[string]string) map[string]string {
	merged := make(map[string]string, len(old))
	maps.Copy(merged, old)
	for key, text := range r.CustomMetadata {
		if text == nil {
			delete(merged, key)
			continue
		}
		merged[key] = string(*text)
	}
	return merged
}
