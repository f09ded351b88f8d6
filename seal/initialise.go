package seal

import (
	"errors"
	"fmt"
	"io"

	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/seal/shamir"
)

// Initialised is what Init and Rekey bring forth. Shares are to be handed out
// once and wiped; Config is to be committed at ConfigKey; Keyring is to become a
// barrier. Nothing is durable yet.
type Initialised struct {
	Config  Config
	Shares  []shamir.IssuedShare
	Keyring *Keyring
}

// Wipe overwrites the shares; the keyring has its own Wipe.
func (i *Initialised) Wipe() {
	for _, s := range i.Shares {
		s.Share.Wipe()
	}
}

// Init makes the keys of a new cluster from rand: a root key split into shares
// of which threshold unseal, and a keyring under it. Bad numbers give an error
// that wraps one of shamir's parameter sentinels. That there is no Config yet is
// for the caller to guard: committing a second one would lose every value.
func Init(rand io.Reader, cluster ClusterID, shares, threshold int) (*Initialised, error) {
	cfg := Config{Cluster: cluster, Generation: 1, Shares: shares}
	return issue(rand, cfg, threshold, func(root redact.Bytes) (*Keyring, error) {
		return newKeyring(rand, root)
	})
}

// Rekey makes a new root key and new shares for the keyring k of cfg, whose
// shares are worthless as soon as the new Config is committed. k is unchanged;
// the result holds a copy of it under the new root key.
func Rekey(rand io.Reader, cfg Config, k *Keyring, shares, threshold int) (*Initialised, error) {
	next := Config{Cluster: cfg.Cluster, Generation: cfg.Generation + 1, Shares: shares}
	return issue(rand, next, threshold, func(root redact.Bytes) (*Keyring, error) {
		memory, err := k.grow(root, 0)
		if err != nil {
			return nil, err
		}
		return parseKeyring(memory)
	})
}

func issue(rand io.Reader, cfg Config, threshold int, make1 func(redact.Bytes) (*Keyring, error)) (*Initialised, error) {
	root, split, commitments, err := shamir.Split(rand, threshold, cfg.Shares)
	if err != nil {
		return nil, err
	}
	defer root.Wipe()
	keyring, err := make1(root)
	if err != nil {
		return nil, err
	}
	cfg.Commitments = commitments
	if cfg, err = keyring.wrap(rand, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("issuing shares: %w", err), keyring.Wipe())
	}
	issued := make([]shamir.IssuedShare, len(split))
	for i, s := range split {
		issued[i] = shamir.IssuedShare{Cluster: cfg.Cluster.Prefix(), Generation: cfg.Generation, Share: s}
	}
	return &Initialised{Config: cfg, Shares: issued, Keyring: keyring}, nil
}
