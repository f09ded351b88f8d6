package kv

import (
	"cmp"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/engine"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
)

// The engine's own records lie below a segment that no path of a user can have,
// so that none of them is ever taken for the settings of a secret.
const ownSegment = "\x01"

var configPath = engine.Path{ownSegment, "config"}

// config is what a mount demands of all its secrets: a record at configPath.
type config struct {
	MaxVersions        uint64        `json:"max_versions,omitempty"` // 0: the default
	CASRequired        bool          `json:"cas_required,omitempty"`
	DeleteVersionAfter time.Duration `json:"delete_version_after,omitempty"` // nanoseconds; 0: never
	// Limits tells that MaxVersions was above zero once, so that a secret may have
	// a record of its own limit. Invariant: it never becomes false again.
	Limits bool `json:"limits,omitempty"`
}

func readConfig(tx engine.Tx) (*config, error) {
	c := &config{}
	_, err := engine.GetJSON(tx, configPath, c)
	return c, err
}

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

// expiry is when a new version ends by itself: what the request says, or else
// the shorter of what its secret and its mount say; 0 never.
func expiry(request time.Duration, s *storev1.SecretSettings, c *config) time.Duration {
	own := s.DeleteVersionAfter.AsDuration()
	switch {
	case request > 0:
		return request
	case own > 0 && c.DeleteVersionAfter > 0:
		return min(own, c.DeleteVersionAfter)
	}
	return cmp.Or(own, c.DeleteVersionAfter)
}

// metadataChange is what a request changes of a secret's settings. What is nil
// stays as it is.
type metadataChange struct {
	maxVersions        *uint64
	casRequired        *bool
	deleteVersionAfter *time.Duration
	// custom returns the new custom metadata; it may change and return the old.
	custom func(old map[string]string) map[string]string
}

// changeMetadata stages the change; the secret need not have a version yet.
func changeMetadata(tx engine.Tx, p engine.Path, change metadataChange) error {
	s, err := settings(tx, p)
	if err != nil {
		return err
	}
	if err := change.apply(s); err != nil {
		return err
	}
	c, err := readConfig(tx)
	if err != nil {
		return err
	}
	head, err := tx.Head(p)
	if err != nil {
		return err
	}
	keep, err := ownLimit(tx, p, head, c)
	if err != nil {
		return err
	}
	if change.maxVersions != nil {
		keep = *change.maxVersions
	}
	if err := setOwnLimit(tx, p, keep, c); err != nil {
		return err
	}
	raw, err := marshal.Marshal(s)
	if err != nil {
		return fmt.Errorf("encoding the settings of a secret: %w", err)
	}
	return tx.PutRecord(p, raw)
}

func (change metadataChange) apply(s *storev1.SecretSettings) error {
	if change.casRequired != nil {
		s.CasRequired = *change.casRequired
	}
	if change.deleteVersionAfter != nil {
		if err := checkExpiry(*change.deleteVersionAfter); err != nil {
			return err
		}
		s.DeleteVersionAfter = durationpb.New(*change.deleteVersionAfter)
	}
	if change.custom != nil {
		s.CustomMetadata = change.custom(s.CustomMetadata)
		if err := checkMetadata(s.CustomMetadata); err != nil {
			return err
		}
	}
	if change.maxVersions != nil {
		return checkLimit(*change.maxVersions)
	}
	return nil
}

func checkExpiry(after time.Duration) error {
	switch {
	case after < 0:
		return &engine.InvalidError{Why: "delete_version_after must not be negative"}
	case after > engine.MaxDuration:
		return &engine.InvalidError{Why: "delete_version_after is above 100 years"}
	}
	return nil
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
