// Package kv is the engine for versioned key-value secrets: numbered versions
// with check-and-set, limits, soft delete, undelete, destroy, expiry, rollback
// and custom metadata.
//
// A version's data lies in the version table, sealed to its number; the
// settings of a secret lie in a record at the same path. Start at Engine.
package kv

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/engine"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Engine answers the calls of the Secrets service. The zero value has the
// default limits. It holds no state.
type Engine struct {
	// MaxValueBytes bounds the data of one version, encoded. 0: 1 MiB.
	MaxValueBytes int
	// MaxPathBytes bounds a path. 0: engine.MaxPathBytes.
	MaxPathBytes int
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

func (e *Engine) path(s string) (engine.Path, error) { return engine.ParsePath(s, e.MaxPathBytes) }

// settings reads what the secret has besides its versions.
func settings(tx engine.Tx, p engine.Path) (*storev1.SecretSettings, error) {
	raw, err := tx.Record(p)
	if err != nil {
		return nil, err
	}
	s := &storev1.SecretSettings{}
	if err := proto.Unmarshal(raw, s); err != nil {
		return nil, fmt.Errorf("reading the settings of a secret: %w", err)
	}
	return s, nil
}

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
