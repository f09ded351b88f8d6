package kv

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Get reads one version, by default the current one.
func (e *Engine) Get() engine.Method[*conclavev1.GetSecretRequest, *conclavev1.GetSecretResponse] {
	return engine.Method[*conclavev1.GetSecretRequest, *conclavev1.GetSecretResponse]{
		Name: conclavev1.Secrets_Get_FullMethodName, Capability: engine.CapabilityRead,
		Path:   below("data/", (*conclavev1.GetSecretRequest).GetPath),
		Handle: e.get,
		Finish: func(r *conclavev1.GetSecretResponse, c engine.Commit) { r.Index = c.Index },
	}
}

func (e *Engine) get(tx engine.Tx, r *conclavev1.GetSecretRequest) (*conclavev1.GetSecretResponse, error) {
	p, err := e.path(r.Path)
	if err != nil {
		return nil, err
	}
	head, err := existing(tx, p)
	if err != nil {
		return nil, err
	}
	n := r.Version
	if n == 0 {
		n = head.Current
	}
	v, err := readable(tx, p, n)
	if err != nil {
		return nil, err
	}
	var data storev1.SecretData
	if err := proto.Unmarshal(v.Value, &data); err != nil {
		return nil, fmt.Errorf("reading a secret: %w", err)
	}
	s, err := settings(tx, p)
	if err != nil {
		return nil, err
	}
	return &conclavev1.GetSecretResponse{Secret: &conclavev1.Secret{
		Path: r.Path, Data: data.Data, Version: versionInfo(n, v), CustomMetadata: s.CustomMetadata,
	}}, nil
}

// List lists a directory.
func (e *Engine) List() engine.Method[*conclavev1.ListSecretsRequest, *conclavev1.ListSecretsResponse] {
	return engine.Method[*conclavev1.ListSecretsRequest, *conclavev1.ListSecretsResponse]{
		Name: conclavev1.Secrets_List_FullMethodName, Capability: engine.CapabilityList,
		Path: below("metadata/", (*conclavev1.ListSecretsRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.ListSecretsRequest) (*conclavev1.ListSecretsResponse, error) {
			dir, err := engine.ParseDirectory(r.Path, e.MaxPathBytes)
			if err != nil {
				return nil, err
			}
			limit := int(min(r.Limit, maxListed))
			if limit == 0 {
				limit = maxListed
			}
			names, more, err := tx.Children(dir, r.After, limit)
			if err != nil {
				return nil, err
			}
			if len(names) == 0 && r.After == "" && len(dir) > 0 {
				return nil, &engine.NotFoundError{What: "directory"}
			}
			return &conclavev1.ListSecretsResponse{Names: names, More: more}, nil
		},
		Finish: func(r *conclavev1.ListSecretsResponse, c engine.Commit) { r.Index = c.Index },
	}
}

// GetMetadata describes a secret and its versions, without their data.
func (e *Engine) GetMetadata() engine.Method[*conclavev1.GetMetadataRequest, *conclavev1.GetMetadataResponse] {
	return engine.Method[*conclavev1.GetMetadataRequest, *conclavev1.GetMetadataResponse]{
		Name: conclavev1.Secrets_GetMetadata_FullMethodName, Capability: engine.CapabilityRead,
		Path:   below("metadata/", (*conclavev1.GetMetadataRequest).GetPath),
		Handle: e.getMetadata,
		Finish: func(r *conclavev1.GetMetadataResponse, c engine.Commit) { r.Index = c.Index },
	}
}

func (e *Engine) getMetadata(tx engine.Tx, r *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error) {
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
	s, err := settings(tx, p)
	if err != nil {
		return nil, err
	}
	m := &conclavev1.SecretMetadata{
		Path: r.Path, CurrentVersion: head.Current, OldestVersion: head.Oldest, MaxVersions: head.Keep,
		CasRequired: s.CasRequired, DeleteVersionAfter: s.DeleteVersionAfter, CustomMetadata: s.CustomMetadata,
		CreatedAt: timestamp(head.Created), UpdatedAt: timestamp(head.Updated),
	}
	for n := head.Oldest; n != 0 && n <= head.Current; n++ {
		v, err := tx.Version(p, n)
		if err != nil {
			return nil, err
		}
		if v != nil {
			m.Versions = append(m.Versions, versionInfo(n, v))
		}
	}
	return &conclavev1.GetMetadataResponse{Metadata: m}, nil
}
