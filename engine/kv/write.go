package kv

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/engine"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// below says where policies find a method: Vault's paths in a mount of this kind.
func below[Req any](prefix string, path func(Req) string) func(Req) string {
	return func(r Req) string { return prefix + path(r) }
}

// creates tells whether the secret at a request's path is not there yet.
func creates[Req any](path func(Req) string) func(engine.Tx, Req) (bool, error) {
	return func(tx engine.Tx, r Req) (bool, error) {
		p, err := engine.ParsePath(path(r), 0)
		if err != nil {
			return false, err
		}
		head, err := tx.Head(p)
		return head == nil, err
	}
}

// marshal encodes what is staged: a method that runs again stages the same bytes.
var marshal = proto.MarshalOptions{Deterministic: true}

// Put writes a new version.
func (e *Engine) Put() engine.Method[*conclavev1.PutSecretRequest, *conclavev1.PutSecretResponse] {
	return engine.Method[*conclavev1.PutSecretRequest, *conclavev1.PutSecretResponse]{
		Name: conclavev1.Secrets_Put_FullMethodName, Capability: engine.CapabilityUpdate, Writes: true,
		Path:    below("data/", (*conclavev1.PutSecretRequest).GetPath),
		Creates: creates((*conclavev1.PutSecretRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.PutSecretRequest) (*conclavev1.PutSecretResponse, error) {
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
			n, err := e.append(tx, r.Path, r.Cas, func(engine.Path) ([]byte, error) { return value, nil }, ttl)
			if err != nil {
				return nil, err
			}
			return &conclavev1.PutSecretResponse{Version: &conclavev1.VersionInfo{Version: n}}, nil
		},
		Finish: func(r *conclavev1.PutSecretResponse, c engine.Commit) {
			r.Index, r.Version.CreatedAt = c.Index, timestamppb.New(c.Time)
		},
	}
}

// Rollback makes the data of an earlier version the newest.
func (e *Engine) Rollback() engine.Method[*conclavev1.RollbackSecretRequest, *conclavev1.RollbackSecretResponse] {
	return engine.Method[*conclavev1.RollbackSecretRequest, *conclavev1.RollbackSecretResponse]{
		Name: conclavev1.Secrets_Rollback_FullMethodName, Capability: engine.CapabilityUpdate, Writes: true,
		Path: below("data/", (*conclavev1.RollbackSecretRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.RollbackSecretRequest) (*conclavev1.RollbackSecretResponse, error) {
			if r.Version == 0 {
				return nil, &engine.InvalidError{Why: "rollback needs the number of a version"}
			}
			n, err := e.append(tx, r.Path, r.Cas, func(p engine.Path) ([]byte, error) {
				v, err := readable(tx, p, r.Version)
				if err != nil {
					return nil, err
				}
				return v.Value, nil
			}, 0)
			if err != nil {
				return nil, err
			}
			return &conclavev1.RollbackSecretResponse{Version: &conclavev1.VersionInfo{Version: n}}, nil
		},
		Finish: func(r *conclavev1.RollbackSecretResponse, c engine.Commit) {
			r.Index, r.Version.CreatedAt = c.Index, timestamppb.New(c.Time)
		},
	}
}

// append adds a version with the value that make returns, if check-and-set allows.
func (e *Engine) append(tx engine.Tx, path string, cas *uint64, make func(engine.Path) ([]byte, error), ttl time.Duration) (uint64, error) {
	p, err := e.path(path)
	if err != nil {
		return 0, err
	}
	s, err := settings(tx, p)
	if err != nil {
		return 0, err
	}
	head, err := tx.Head(p)
	if err != nil {
		return 0, err
	}
	var current uint64
	if head != nil {
		current = head.Current
	}
	switch {
	case cas == nil && s.CasRequired:
		return 0, &engine.CheckAndSetError{Required: true, Current: current}
	case cas != nil && *cas != current:
		return 0, &engine.CheckAndSetError{Want: *cas, Current: current}
	}
	value, err := make(p)
	if err != nil {
		return 0, err
	}
	if ttl == 0 {
		ttl = s.DeleteVersionAfter.AsDuration()
	}
	return tx.AppendVersion(p, value, ttl)
}

// encode checks the fields of a secret and returns their durable form.
func (e *Engine) encode(data map[string]*conclavev1.Field) ([]byte, error) {
	if len(data) == 0 {
		return nil, &engine.InvalidError{Why: "a secret needs at least one field"}
	}
	for name, f := range data {
		if name == "" {
			return nil, &engine.InvalidError{Why: "a field needs a name"}
		}
		switch kind := f.GetKind().(type) {
		case *conclavev1.Field_Text, *conclavev1.Field_Binary:
		case *conclavev1.Field_Json:
			if !json.Valid([]byte(kind.Json)) {
				return nil, &engine.InvalidError{Why: "a field given as JSON is not valid JSON"}
			}
		default:
			return nil, &engine.InvalidError{Why: "a field has no value"}
		}
	}
	value, err := marshal.Marshal(&storev1.SecretData{Data: data})
	if err != nil {
		return nil, &engine.InvalidError{Why: "the fields cannot be encoded"}
	}
	if len(value) > e.maxValue() {
		return nil, &engine.TooLargeError{What: "secret", Bytes: len(value), Limit: e.maxValue()}
	}
	return value, nil
}

// Delete hides versions, by default the current one.
func (e *Engine) Delete() engine.Method[*conclavev1.DeleteSecretRequest, *conclavev1.DeleteSecretResponse] {
	return engine.Method[*conclavev1.DeleteSecretRequest, *conclavev1.DeleteSecretResponse]{
		Name: conclavev1.Secrets_Delete_FullMethodName, Capability: engine.CapabilityDelete, Writes: true,
		Path: below("data/", (*conclavev1.DeleteSecretRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.DeleteSecretRequest) (*conclavev1.DeleteSecretResponse, error) {
			return &conclavev1.DeleteSecretResponse{}, e.change(tx, r.Path, engine.Delete, r.Versions)
		},
		Finish: func(r *conclavev1.DeleteSecretResponse, c engine.Commit) { r.Index = c.Index },
	}
}

// Undelete brings deleted versions back.
func (e *Engine) Undelete() engine.Method[*conclavev1.UndeleteSecretRequest, *conclavev1.UndeleteSecretResponse] {
	return engine.Method[*conclavev1.UndeleteSecretRequest, *conclavev1.UndeleteSecretResponse]{
		Name: conclavev1.Secrets_Undelete_FullMethodName, Capability: engine.CapabilityUpdate, Writes: true,
		Path: below("undelete/", (*conclavev1.UndeleteSecretRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.UndeleteSecretRequest) (*conclavev1.UndeleteSecretResponse, error) {
			if len(r.Versions) == 0 {
				return nil, &engine.InvalidError{Why: "undelete needs the numbers of versions"}
			}
			return &conclavev1.UndeleteSecretResponse{}, e.change(tx, r.Path, engine.Undelete, r.Versions)
		},
		Finish: func(r *conclavev1.UndeleteSecretResponse, c engine.Commit) { r.Index = c.Index },
	}
}

// Destroy removes the data of versions for good.
func (e *Engine) Destroy() engine.Method[*conclavev1.DestroySecretRequest, *conclavev1.DestroySecretResponse] {
	return engine.Method[*conclavev1.DestroySecretRequest, *conclavev1.DestroySecretResponse]{
		Name: conclavev1.Secrets_Destroy_FullMethodName, Capability: engine.CapabilityUpdate, Writes: true,
		Path: below("destroy/", (*conclavev1.DestroySecretRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.DestroySecretRequest) (*conclavev1.DestroySecretResponse, error) {
			if len(r.Versions) == 0 {
				return nil, &engine.InvalidError{Why: "destroy needs the numbers of versions"}
			}
			return &conclavev1.DestroySecretResponse{}, e.change(tx, r.Path, engine.Destroy, r.Versions)
		},
		Finish: func(r *conclavev1.DestroySecretResponse, c engine.Commit) { r.Index = c.Index },
	}
}

func (e *Engine) change(tx engine.Tx, path string, change engine.Change, numbers []uint64) error {
	p, err := e.path(path)
	if err != nil {
		return err
	}
	if len(numbers) > maxNumbers {
		return &engine.TooLargeError{What: "list of versions", Bytes: len(numbers), Limit: maxNumbers}
	}
	head, err := existing(tx, p)
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		numbers = []uint64{head.Current}
	}
	for _, n := range numbers {
		v, err := known(tx, p, n)
		if err != nil {
			return err
		}
		if change == engine.Undelete && v.Destroyed {
			return &engine.GoneError{Version: n, Destroyed: true}
		}
	}
	return tx.ChangeVersions(p, change, numbers)
}

// existing returns the head of a secret that has at least one version.
func existing(tx engine.Tx, p engine.Path) (*engine.Head, error) {
	head, err := tx.Head(p)
	if err != nil {
		return nil, err
	}
	if head == nil || head.Current == 0 {
		return nil, &engine.NotFoundError{What: "secret"}
	}
	return head, nil
}

// known returns version n whatever its state.
func known(tx engine.Tx, p engine.Path, n uint64) (*engine.Version, error) {
	v, err := tx.Version(p, n)
	if err == nil && v == nil {
		err = &engine.NotFoundError{What: fmt.Sprintf("version %d", n)}
	}
	return v, err
}

// readable returns version n if its data can be read.
func readable(tx engine.Tx, p engine.Path, n uint64) (*engine.Version, error) {
	if _, err := existing(tx, p); err != nil {
		return nil, err
	}
	v, err := known(tx, p, n)
	if err != nil {
		return nil, err
	}
	if v.Destroyed || v.Deleted {
		return nil, &engine.GoneError{Version: n, Destroyed: v.Destroyed}
	}
	return v, nil
}

// PutMetadata changes the settings of a secret; it may come before the first version.
func (e *Engine) PutMetadata() engine.Method[*conclavev1.PutMetadataRequest, *conclavev1.PutMetadataResponse] {
	return engine.Method[*conclavev1.PutMetadataRequest, *conclavev1.PutMetadataResponse]{
		Name: conclavev1.Secrets_PutMetadata_FullMethodName, Capability: engine.CapabilityUpdate, Writes: true,
		Path:    below("metadata/", (*conclavev1.PutMetadataRequest).GetPath),
		Creates: creates((*conclavev1.PutMetadataRequest).GetPath),
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
	s, err := settings(tx, p)
	if err != nil {
		return err
	}
	if r.CasRequired != nil {
		s.CasRequired = *r.CasRequired
	}
	if r.DeleteVersionAfter != nil {
		switch after := r.DeleteVersionAfter.AsDuration(); {
		case after < 0:
			return &engine.InvalidError{Why: "delete_version_after must not be negative"}
		case after > engine.MaxDuration:
			return &engine.InvalidError{Why: "delete_version_after is above 100 years"}
		}
		s.DeleteVersionAfter = r.DeleteVersionAfter
	}
	if r.SetCustomMetadata {
		if err := checkMetadata(r.CustomMetadata); err != nil {
			return err
		}
		s.CustomMetadata = r.CustomMetadata
	}
	head, err := tx.Head(p)
	if err != nil {
		return err
	}
	keep := uint64(0)
	if head != nil {
		keep = head.Keep
	}
	if r.MaxVersions != nil {
		keep = *r.MaxVersions
	}
	if keep > maxVersionsLimit {
		return &engine.InvalidError{Why: fmt.Sprintf("max_versions is above %d", maxVersionsLimit)}
	}
	if err := tx.SetLimits(p, keep); err != nil {
		return err
	}
	raw, err := marshal.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding the settings of a secret: %w", err)
	}
	return tx.PutRecord(p, raw)
}

func checkMetadata(m map[string]string) error {
	if len(m) > maxMetadataKeys {
		return &engine.InvalidError{Why: fmt.Sprintf("custom metadata has more than %d keys", maxMetadataKeys)}
	}
	for k, v := range m {
		switch {
		case k == "" || len(k) > maxMetadataKey:
			return &engine.InvalidError{Why: fmt.Sprintf("a key of custom metadata must have 1 to %d bytes", maxMetadataKey)}
		case len(v) > maxMetadataValue:
			return &engine.InvalidError{Why: fmt.Sprintf("a value of custom metadata has more than %d bytes", maxMetadataValue)}
		case !utf8.ValidString(k) || !utf8.ValidString(v):
			return &engine.InvalidError{Why: "custom metadata is not valid UTF-8"}
		}
	}
	return nil
}

// DeleteMetadata removes a secret with all its versions and settings.
func (e *Engine) DeleteMetadata() engine.Method[*conclavev1.DeleteMetadataRequest, *conclavev1.DeleteMetadataResponse] {
	return engine.Method[*conclavev1.DeleteMetadataRequest, *conclavev1.DeleteMetadataResponse]{
		Name: conclavev1.Secrets_DeleteMetadata_FullMethodName, Capability: engine.CapabilityDelete, Writes: true,
		Path: below("metadata/", (*conclavev1.DeleteMetadataRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.DeleteMetadataRequest) (*conclavev1.DeleteMetadataResponse, error) {
			p, err := e.path(r.Path)
			if err != nil {
				return nil, err
			}
			head, err := tx.Head(p)
			if err != nil {
				return nil, err
			}
			if head == nil {
				return nil, &engine.NotFoundError{What: "secret"}
			}
			if err := tx.PurgeSecret(p); err != nil {
				return nil, err
			}
			return &conclavev1.DeleteMetadataResponse{}, tx.DeleteRecord(p)
		},
		Finish: func(r *conclavev1.DeleteMetadataResponse, c engine.Commit) { r.Index = c.Index },
	}
}
