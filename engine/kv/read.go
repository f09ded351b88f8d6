package kv

import (
	"github.com/conclave-secrets/conclave/engine"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Get reads one version, by default the current one.
func (e *Engine) Get() engine.Method[*conclavev1.GetSecretRequest, *conclavev1.GetSecretResponse] {
	return engine.Method[*conclavev1.GetSecretRequest, *conclavev1.GetSecretResponse]{
		Serves: serves,
		Name:   conclavev1.Secrets_Get_FullMethodName, Capability: engine.CapabilityRead,
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
	n, v, err := readable(tx, p, r.Version)
	if err != nil {
		return nil, err
	}
	data, err := open(v)
	if err != nil {
		return nil, err
	}
	s, err := settings(tx, p)
	if err != nil {
		return nil, err
	}
	return &conclavev1.GetSecretResponse{Secret: &conclavev1.Secret{
		Path: r.Path, Data: data, Version: versionInfo(n, v), CustomMetadata: s.CustomMetadata,
	}}, nil
}

// List lists a directory.
func (e *Engine) List() engine.Method[*conclavev1.ListSecretsRequest, *conclavev1.ListSecretsResponse] {
	return engine.Method[*conclavev1.ListSecretsRequest, *conclavev1.ListSecretsResponse]{
		Serves: serves,
		Name:   conclavev1.Secrets_List_FullMethodName, Capability: engine.CapabilityList,
		Path: below("metadata/", (*conclavev1.ListSecretsRequest).GetPath),
		Handle: func(tx engine.Tx, r *conclavev1.ListSecretsRequest) (*conclavev1.ListSecretsResponse, error) {
			limit := int(min(r.Limit, maxListed))
			if limit == 0 {
				limit = maxListed
			}
			names, more, err := e.list(tx, r.Path, r.After, limit)
			if err != nil {
				return nil, err
			}
			return &conclavev1.ListSecretsResponse{Names: names, More: more}, nil
		},
		Finish: func(r *conclavev1.ListSecretsResponse, c engine.Commit) { r.Index = c.Index },
	}
}

// GetMetadata describes a secret and its versions, without their data.
func (e *Engine) GetMetadata() engine.Method[*conclavev1.GetMetadataRequest, *conclavev1.GetMetadataResponse] {
	return engine.Method[*conclavev1.GetMetadataRequest, *conclavev1.GetMetadataResponse]{
		Serves: serves,
		Name:   conclavev1.Secrets_GetMetadata_FullMethodName, Capability: engine.CapabilityRead,
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
	d, err := describe(tx, p)
	if err != nil {
		return nil, err
	}
	m := &conclavev1.SecretMetadata{
		Path: r.Path, CurrentVersion: d.head.Current, OldestVersion: d.head.Oldest, MaxVersions: d.own,
		CasRequired: d.settings.CasRequired, DeleteVersionAfter: d.settings.DeleteVersionAfter, CustomMetadata: d.settings.CustomMetadata,
		CreatedAt: timestamp(d.head.Created), UpdatedAt: timestamp(d.head.Updated),
	}
	for _, v := range d.versions {
		m.Versions = append(m.Versions, versionInfo(v.number, v.Version))
	}
	return &conclavev1.GetMetadataResponse{Metadata: m}, nil
}
