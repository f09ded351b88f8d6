package client

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Metadata is what is known of a secret apart from its data.
type Metadata struct {
	Path               string
	CurrentVersion     uint64
	OldestVersion      uint64
	MaxVersions        uint64 // 0: the server's default, 10
	CASRequired        bool
	DeleteVersionAfter time.Duration // 0: never
	CustomMetadata     map[string]string
	CreatedAt          time.Time
	UpdatedAt          time.Time
	Versions           []Version
	Index              uint64
}

// A MetadataChange says what PutMetadata sets; nil fields stay as they are.
type MetadataChange struct {
	MaxVersions        *uint64
	CASRequired        *bool
	DeleteVersionAfter *time.Duration
	// CustomMetadata replaces what was there when it is not nil; an empty map
	// removes all.
	CustomMetadata map[string]string
	WriteOptions
}

// GetMetadata reads the metadata of a secret.
func (s Secrets) GetMetadata(ctx context.Context, path string, want Consistency) (Metadata, error) {
	request := &conclavev1.GetMetadataRequest{Mount: s.mount, Path: path, Read: s.c.readOptions(want)}
	got, err := invoke(ctx, s.c, call{activity: activity("getting metadata of secret", path), effect: reads}, request,
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.GetMetadataRequest) (*conclavev1.GetMetadataResponse, error) {
			return conclavev1.NewSecretsClient(conn).GetMetadata(ctx, r)
		})
	if err != nil {
		return Metadata{}, err
	}
	return metadataFromProto(got.GetMetadata(), got.GetIndex()), nil
}

// PutMetadata changes the metadata of a secret, which need not exist yet. It
// returns the index of the write.
func (s Secrets) PutMetadata(ctx context.Context, path string, change MetadataChange) (uint64, error) {
	k, write, err := s.c.write(activity("putting metadata of secret", path), change.WriteOptions)
	if err != nil {
		return 0, err
	}
	request := &conclavev1.PutMetadataRequest{
		Mount:             s.mount,
		Path:              path,
		MaxVersions:       change.MaxVersions,
		CasRequired:       change.CASRequired,
		CustomMetadata:    change.CustomMetadata,
		SetCustomMetadata: change.CustomMetadata != nil,
		Write:             write,
	}
	if change.DeleteVersionAfter != nil {
		request.DeleteVersionAfter = durationpb.New(*change.DeleteVersionAfter)
	}
	got, err := invoke(ctx, s.c, k, request, func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.PutMetadataRequest) (*conclavev1.PutMetadataResponse, error) {
		return conclavev1.NewSecretsClient(conn).PutMetadata(ctx, r)
	})
	return got.GetIndex(), err
}

// DeleteMetadata removes a secret with all its versions, for good.
func (s Secrets) DeleteMetadata(ctx context.Context, path string, o WriteOptions) (uint64, error) {
	k, write, err := s.c.write(activity("deleting metadata of secret", path), o)
	if err != nil {
		return 0, err
	}
	request := &conclavev1.DeleteMetadataRequest{Mount: s.mount, Path: path, Write: write}
	got, err := invoke(ctx, s.c, k, request, func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.DeleteMetadataRequest) (*conclavev1.DeleteMetadataResponse, error) {
		return conclavev1.NewSecretsClient(conn).DeleteMetadata(ctx, r)
	})
	return got.GetIndex(), err
}

func metadataFromProto(m *conclavev1.SecretMetadata, index uint64) Metadata {
	out := Metadata{
		Path:           m.GetPath(),
		CurrentVersion: m.GetCurrentVersion(),
		OldestVersion:  m.GetOldestVersion(),
		MaxVersions:    m.GetMaxVersions(),
		CASRequired:    m.GetCasRequired(),
		CustomMetadata: m.GetCustomMetadata(),
		CreatedAt:      timeFromProto(m.GetCreatedAt()),
		UpdatedAt:      timeFromProto(m.GetUpdatedAt()),
		Index:          index,
	}
	if m.GetDeleteVersionAfter() != nil {
		out.DeleteVersionAfter = m.GetDeleteVersionAfter().AsDuration()
	}
	for _, v := range m.GetVersions() {
		out.Versions = append(out.Versions, versionFromProto(v))
	}
	return out
}
