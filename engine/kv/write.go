package kv

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/engine"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// below says where policies find a method: Vault's paths in a mount of this kind.
func below[Req any](prefix string, path func(Req) string) func(Req) string {
	return func(r Req) string { return prefix + path(r) }
}

// creates tells whether the secret at a request's path is not there yet.
func creates[Req any](e *Engine, path func(Req) string) func(engine.Tx, Req) (bool, error) {
	return func(tx engine.Tx, r Req) (bool, error) {
		exists, err := e.exists(tx, path(r))
		return err == nil && !exists, err
	}
}

// Put writes a new version.
func (e *Engine) Put() engine.Method[*conclavev1.PutSecretRequest, *conclavev1.PutSecretResponse] {
	return engine.Method[*conclavev1.PutSecretRequest, *conclavev1.PutSecretResponse]{
		Serves: serves,
		Name:   conclavev1.Secrets_Put_FullMethodName, Capability: engine.CapabilityUpdate, Writes: true,
		Path:    below("data/", (*conclavev1.PutSecretRequest).GetPath),
		Creates: creates(e, (*conclavev1.PutSecretRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.PutSecretRequest) (*conclavev1.PutSecretResponse, error) {
			if len(r.Data) == 0 {
				return nil, &engine.InvalidError{Why: "a secret needs at least one field"}
			}
			value, err := e.encode(r.Data)
			if err != nil {
				return nil, err
			}
			ttl := r.Ttl.AsDuration()
			switch {
			case r.Ttl != nil && ttl <= 0:
				return nil, &engine.InvalidError{Why: "the ttl of a version must be above zero"}
			case ttl > engine.MaxDuration:
				return nil, &engine.InvalidError{Why: "the ttl of a version is above 100 years"}
			}
			done, err := e.append(tx, r.Path, r.Cas, ttl, func(engine.Path, *engine.Head) ([]byte, error) { return value, nil })
			if err != nil {
				return nil, err
			}
			return &conclavev1.PutSecretResponse{Version: &conclavev1.VersionInfo{Version: done.number}}, nil
		},
		Finish: func(r *conclavev1.PutSecretResponse, c engine.Commit) {
			r.Index, r.Version.CreatedAt = c.Index, timestamppb.New(c.Time)
		},
	}
}

// Rollback makes the data of an earlier version the newest.
func (e *Engine) Rollback() engine.Method[*conclavev1.RollbackSecretRequest, *conclavev1.RollbackSecretResponse] {
	return engine.Method[*conclavev1.RollbackSecretRequest, *conclavev1.RollbackSecretResponse]{
		Serves: serves,
		Name:   conclavev1.Secrets_Rollback_FullMethodName, Capability: engine.CapabilityUpdate, Writes: true,
		Path: below("data/", (*conclavev1.RollbackSecretRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.RollbackSecretRequest) (*conclavev1.RollbackSecretResponse, error) {
			if r.Version == 0 {
				return nil, &engine.InvalidError{Why: "rollback needs the number of a version"}
			}
			done, err := e.append(tx, r.Path, r.Cas, 0, func(p engine.Path, _ *engine.Head) ([]byte, error) {
				_, v, err := readable(tx, p, r.Version)
				if err != nil {
					return nil, err
				}
				return v.Value, nil
			})
			if err != nil {
				return nil, err
			}
			return &conclavev1.RollbackSecretResponse{Version: &conclavev1.VersionInfo{Version: done.number}}, nil
		},
		Finish: func(r *conclavev1.RollbackSecretResponse, c engine.Commit) {
			r.Index, r.Version.CreatedAt = c.Index, timestamppb.New(c.Time)
		},
	}
}

// Delete hides versions, by default the current one.
func (e *Engine) Delete() engine.Method[*conclavev1.DeleteSecretRequest, *conclavev1.DeleteSecretResponse] {
	return engine.Method[*conclavev1.DeleteSecretRequest, *conclavev1.DeleteSecretResponse]{
		Serves: serves,
		Name:   conclavev1.Secrets_Delete_FullMethodName, Capability: engine.CapabilityDelete, Writes: true,
		// Named versions are deleted by an update at a path of their own, as over HTTP.
		CapabilityOf: func(r *conclavev1.DeleteSecretRequest) engine.Capability {
			if len(r.Versions) > 0 {
				return engine.CapabilityUpdate
			}
			return engine.CapabilityDelete
		},
		Path: func(r *conclavev1.DeleteSecretRequest) string {
			if len(r.Versions) > 0 {
				return "delete/" + r.Path
			}
			return "data/" + r.Path
		},
		Handle: func(tx engine.Tx, r *conclavev1.DeleteSecretRequest) (*conclavev1.DeleteSecretResponse, error) {
			return &conclavev1.DeleteSecretResponse{}, e.change(tx, r.Path, engine.Delete, r.Versions, refuseUnfit)
		},
		Finish: func(r *conclavev1.DeleteSecretResponse, c engine.Commit) { r.Index = c.Index },
	}
}

// Undelete brings deleted versions back.
func (e *Engine) Undelete() engine.Method[*conclavev1.UndeleteSecretRequest, *conclavev1.UndeleteSecretResponse] {
	return engine.Method[*conclavev1.UndeleteSecretRequest, *conclavev1.UndeleteSecretResponse]{
		Serves: serves,
		Name:   conclavev1.Secrets_Undelete_FullMethodName, Capability: engine.CapabilityUpdate, Writes: true,
		Path: below("undelete/", (*conclavev1.UndeleteSecretRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.UndeleteSecretRequest) (*conclavev1.UndeleteSecretResponse, error) {
			if len(r.Versions) == 0 {
				return nil, &engine.InvalidError{Why: "undelete needs the numbers of versions"}
			}
			return &conclavev1.UndeleteSecretResponse{}, e.change(tx, r.Path, engine.Undelete, r.Versions, refuseUnfit)
		},
		Finish: func(r *conclavev1.UndeleteSecretResponse, c engine.Commit) { r.Index = c.Index },
	}
}

// Destroy removes the data of versions for good.
func (e *Engine) Destroy() engine.Method[*conclavev1.DestroySecretRequest, *conclavev1.DestroySecretResponse] {
	return engine.Method[*conclavev1.DestroySecretRequest, *conclavev1.DestroySecretResponse]{
		Serves: serves,
		Name:   conclavev1.Secrets_Destroy_FullMethodName, Capability: engine.CapabilityUpdate, Writes: true,
		Path: below("destroy/", (*conclavev1.DestroySecretRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.DestroySecretRequest) (*conclavev1.DestroySecretResponse, error) {
			if len(r.Versions) == 0 {
				return nil, &engine.InvalidError{Why: "destroy needs the numbers of versions"}
			}
			return &conclavev1.DestroySecretResponse{}, e.change(tx, r.Path, engine.Destroy, r.Versions, refuseUnfit)
		},
		Finish: func(r *conclavev1.DestroySecretResponse, c engine.Commit) { r.Index = c.Index },
	}
}

// PutMetadata changes the settings of a secret; it may come before the first version.
func (e *Engine) PutMetadata() engine.Method[*conclavev1.PutMetadataRequest, *conclavev1.PutMetadataResponse] {
	return engine.Method[*conclavev1.PutMetadataRequest, *conclavev1.PutMetadataResponse]{
		Serves: serves,
		Name:   conclavev1.Secrets_PutMetadata_FullMethodName, Capability: engine.CapabilityUpdate, Writes: true,
		Path:    below("metadata/", (*conclavev1.PutMetadataRequest).GetPath),
		Creates: creates(e, (*conclavev1.PutMetadataRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.PutMetadataRequest) (*conclavev1.PutMetadataResponse, error) {
			return &conclavev1.PutMetadataResponse{}, e.putMetadata(tx, r)
		},
		Finish: func(r *conclavev1.PutMetadataResponse, c engine.Commit) { r.Index = c.Index },
	}
}

func (e *Engine) putMetadata(tx engine.Tx, r *conclavev1.PutMetadataRequest) error {
	p, err := e.path(r.Path)
	if err != nil {
		return err
	}
	change := metadataChange{maxVersions: r.MaxVersions, casRequired: r.CasRequired}
	if r.DeleteVersionAfter != nil {
		change.deleteVersionAfter = new(r.DeleteVersionAfter.AsDuration())
	}
	if r.SetCustomMetadata {
		change.custom = func(map[string]string) map[string]string { return r.CustomMetadata }
	}
	return changeMetadata(tx, p, change)
}

// DeleteMetadata removes a secret with all its versions and settings.
func (e *Engine) DeleteMetadata() engine.Method[*conclavev1.DeleteMetadataRequest, *conclavev1.DeleteMetadataResponse] {
	return engine.Method[*conclavev1.DeleteMetadataRequest, *conclavev1.DeleteMetadataResponse]{
		Serves: serves,
		Name:   conclavev1.Secrets_DeleteMetadata_FullMethodName, Capability: engine.CapabilityDelete, Writes: true,
		Path: below("metadata/", (*conclavev1.DeleteMetadataRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.DeleteMetadataRequest) (*conclavev1.DeleteMetadataResponse, error) {
			p, err := e.path(r.Path)
			if err != nil {
				return nil, err
			}
			return &conclavev1.DeleteMetadataResponse{}, purge(tx, p)
		},
		Finish: func(r *conclavev1.DeleteMetadataResponse, c engine.Commit) { r.Index = c.Index },
	}
}
