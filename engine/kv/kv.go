// Package kv is the engine for key-value secrets: numbered versions with
// check-and-set, limits, soft delete, undelete, destroy, expiry, rollback and
// custom metadata, and the same without versions, as Vault's version 1 has it.
//
// One set of rules (secret.go, settings.go, limits.go) has three doors: the typed
// methods of the Secrets service (read.go, write.go), Vault's routes of version 2
// (v2_*.go) and of version 1 (v1.go). All see the same stored data, so what one
// writes another reads; DESIGN.md says how.
//
// What never lives here: a status code, the text of an envelope, a token.
// Start at Engine and Backend, then secret.go.
package kv

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/engine"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Engine answers the calls of the Secrets service. The zero value has the
// default limits. It holds no state.
type Engine struct {
	// MaxValueBytes bounds the data of one version, encoded. 0: 1 MiB.
	MaxValueBytes int
	// MaxPathBytes bounds a path. 0: engine.MaxPathBytes.
	MaxPathBytes int
	// MaxKeys bounds a listing by a route, which Vault's clients expect whole.
	// 0: 1,048,576.
	MaxKeys int
}

// Limits on custom metadata, as Vault's users know them.
const (
	maxMetadataKeys  = 64
	maxMetadataKey   = 128 // bytes
	maxMetadataValue = 512 // bytes
	maxVersionsLimit = 10_000
	maxListed        = 1000 // names in one page
	maxNumbers       = 1000 // versions named in one request
)

func (e *Engine) maxValue() int {
	if e.MaxValueBytes == 0 {
		return 1 << 20
	}
	return e.MaxValueBytes
}

func (e *Engine) maxKeys() int {
	if e.MaxKeys == 0 {
		return 1 << 20
	}
	return e.MaxKeys
}

func (e *Engine) path(s string) (engine.Path, error) { return engine.ParsePath(s, e.MaxPathBytes) }

func versionInfo(n uint64, v *engine.Version) *conclavev1.VersionInfo {
	return &conclavev1.VersionInfo{
		Version: n, CreatedAt: timestamp(v.Created), DeletedAt: timestamp(v.DeletedAt),
		Deleted: v.Deleted, Destroyed: v.Destroyed,
	}
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
