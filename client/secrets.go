package client

import (
	"context"
	"time"

	"google.golang.org/grpc"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Secrets are the calls on secrets and their versions.
type Secrets struct {
	c     *Client
	mount string
}

// At returns the calls on the secrets of another kv mount, version 2. "" is the
// mount secret/, which Client.Secrets is for.
func (s Secrets) At(mount string) Secrets { return Secrets{s.c, mount} }

// A Version describes one version of a secret.
type Version struct {
	Number    uint64
	CreatedAt time.Time
	// DeletedAt is zero, or when the version was or will be deleted.
	DeletedAt time.Time
	Deleted   bool
	Destroyed bool
}

// A Secret is one version of a secret with its data.
type Secret struct {
	Path           string
	Data           Data // empty when the version is deleted or destroyed
	Version        Version
	CustomMetadata map[string]string
	// Index of the state that this answer reflects.
	Index uint64
}

// A Written is the answer to a write that made a version.
type Written struct {
	Version Version
	Index   uint64
}

// PutOptions belong to Put and Rollback.
type PutOptions struct {
	// CAS is the version that must be current: new(uint64(3)). 0 means that the
	// secret must not exist. Nil: no check.
	CAS *uint64
	// TTL after which the version expires. Zero: the secret's own setting.
	// Rollback does not use it.
	TTL time.Duration
	WriteOptions
}

// GetOptions belong to Get.
type GetOptions struct {
	Version     uint64 // 0: the current one
	Consistency Consistency
}

// Put writes a new version. When it returns nil the version is on the disks of
// a quorum.
func (s Secrets) Put(ctx context.Context, path string, data Data, o PutOptions) (Written, error) {
	k, write, err := s.c.write(activity("putting secret", path), o.WriteOptions)
	if err != nil {
		return Written{}, err
	}
	request := &conclavev1.PutSecretRequest{Mount: s.mount, Path: path, Data: data.proto(), Cas: o.CAS, Ttl: optionalDuration(o.TTL), Write: write}
	got, err := invoke(ctx, s.c, k, request, func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.PutSecretRequest) (*conclavev1.PutSecretResponse, error) {
		return conclavev1.NewSecretsClient(conn).Put(ctx, r)
	})
	if err != nil {
		return Written{}, err
	}
	return Written{versionFromProto(got.GetVersion()), got.GetIndex()}, nil
}

// Get reads a version. The Secret belongs to the caller.
func (s Secrets) Get(ctx context.Context, path string, o GetOptions) (Secret, error) {
	request := &conclavev1.GetSecretRequest{Mount: s.mount, Path: path, Version: o.Version, Read: s.c.readOptions(o.Consistency)}
	got, err := invoke(ctx, s.c, call{activity: activity("getting secret", path), effect: reads}, request,
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.GetSecretRequest) (*conclavev1.GetSecretResponse, error) {
			return conclavev1.NewSecretsClient(conn).Get(ctx, r)
		})
	if err != nil {
		return Secret{}, err
	}
	return Secret{
		Path:           got.GetSecret().GetPath(),
		Data:           dataFromProto(got.GetSecret().GetData()),
		Version:        versionFromProto(got.GetSecret().GetVersion()),
		CustomMetadata: got.GetSecret().GetCustomMetadata(),
		Index:          got.GetIndex(),
	}, nil
}

// ListOptions belong to List of secrets and of leases.
type ListOptions struct {
	// After is the last name of the page before.
	After string
	// Limit of names in a page. 0: the server's, 1000.
	Limit       int
	Consistency Consistency
}

// A Page is one page of names. A trailing slash marks a directory.
type Page struct {
	Names []string
	More  bool
	Index uint64
}

// List reads the names in a directory; "" is the root.
func (s Secrets) List(ctx context.Context, directory string, o ListOptions) (Page, error) {
	request := &conclavev1.ListSecretsRequest{Mount: s.mount, Path: directory, After: o.After, Limit: uint32(max(0, o.Limit)), Read: s.c.readOptions(o.Consistency)}
	got, err := invoke(ctx, s.c, call{activity: activity("listing secrets in", directory), effect: reads}, request,
		func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.ListSecretsRequest) (*conclavev1.ListSecretsResponse, error) {
			return conclavev1.NewSecretsClient(conn).List(ctx, r)
		})
	if err != nil {
		return Page{}, err
	}
	return Page{got.GetNames(), got.GetMore(), got.GetIndex()}, nil
}

// Delete hides versions, or the current one when none are named. It returns
// the index of the write.
func (s Secrets) Delete(ctx context.Context, path string, versions []uint64, o WriteOptions) (uint64, error) {
	k, write, err := s.c.write(activity("deleting secret", path), o)
	if err != nil {
		return 0, err
	}
	request := &conclavev1.DeleteSecretRequest{Mount: s.mount, Path: path, Versions: versions, Write: write}
	got, err := invoke(ctx, s.c, k, request, func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.DeleteSecretRequest) (*conclavev1.DeleteSecretResponse, error) {
		return conclavev1.NewSecretsClient(conn).Delete(ctx, r)
	})
	return got.GetIndex(), err
}

// Undelete brings deleted versions back.
func (s Secrets) Undelete(ctx context.Context, path string, versions []uint64, o WriteOptions) (uint64, error) {
	k, write, err := s.c.write(activity("undeleting secret", path), o)
	if err != nil {
		return 0, err
	}
	request := &conclavev1.UndeleteSecretRequest{Mount: s.mount, Path: path, Versions: versions, Write: write}
	got, err := invoke(ctx, s.c, k, request, func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.UndeleteSecretRequest) (*conclavev1.UndeleteSecretResponse, error) {
		return conclavev1.NewSecretsClient(conn).Undelete(ctx, r)
	})
	return got.GetIndex(), err
}

// Destroy removes the data of versions for good.
func (s Secrets) Destroy(ctx context.Context, path string, versions []uint64, o WriteOptions) (uint64, error) {
	k, write, err := s.c.write(activity("destroying versions of secret", path), o)
	if err != nil {
		return 0, err
	}
	request := &conclavev1.DestroySecretRequest{Mount: s.mount, Path: path, Versions: versions, Write: write}
	got, err := invoke(ctx, s.c, k, request, func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.DestroySecretRequest) (*conclavev1.DestroySecretResponse, error) {
		return conclavev1.NewSecretsClient(conn).Destroy(ctx, r)
	})
	return got.GetIndex(), err
}

// Rollback writes the data of an earlier version as a new one.
func (s Secrets) Rollback(ctx context.Context, path string, version uint64, o PutOptions) (Written, error) {
	k, write, err := s.c.write(activity("rolling back secret", path), o.WriteOptions)
	if err != nil {
		return Written{}, err
	}
	request := &conclavev1.RollbackSecretRequest{Mount: s.mount, Path: path, Version: version, Cas: o.CAS, Write: write}
	got, err := invoke(ctx, s.c, k, request, func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.RollbackSecretRequest) (*conclavev1.RollbackSecretResponse, error) {
		return conclavev1.NewSecretsClient(conn).Rollback(ctx, r)
	})
	if err != nil {
		return Written{}, err
	}
	return Written{versionFromProto(got.GetVersion()), got.GetIndex()}, nil
}

func versionFromProto(v *conclavev1.VersionInfo) Version {
	return Version{
		Number:    v.GetVersion(),
		CreatedAt: timeFromProto(v.GetCreatedAt()),
		DeletedAt: timeFromProto(v.GetDeletedAt()),
		Deleted:   v.GetDeleted(),
		Destroyed: v.GetDestroyed(),
	}
}
