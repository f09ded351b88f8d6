// Package shamir splits the root secret of a cluster into verifiable shares and
// puts it together again: Shamir's scheme with Feldman's commitments, over
// cloudflare/circl, in the group ristretto255.
//
// Here too is the form in which a share is handed to people (IssuedShare,
// ParseShare) and its encryption to a custodian (EncryptTo). What never lives
// here: the keyring, the configuration, and what the root secret opens; that is
// package seal. Start reading at Split and Recover.
//
// Why ristretto255 and not P-256: circl warns that scalar arithmetic modulo the
// order of P-256 is not constant time, and a polynomial over secrets is nothing
// but scalar arithmetic. Ristretto also has one encoding per element and per
// scalar, and no cofactor to think of.
//
// References: Shamir, "How to share a secret", CACM 1979; Feldman, "A practical
// scheme for non-interactive verifiable secret sharing", FOCS 1987; RFC 9496.
package shamir

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"

	"github.com/conclave-secrets/conclave/internal/redact"
)

const (
	// MaxShares is the largest number of shares: an index is one byte and 0 is
	// where the secret itself lies.
	MaxShares = 255
	// RootSize is the length of a root secret, in bytes.
	RootSize = 32

	scalarSize  = 32
	elementSize = 32
	seedSize    = 64 // twice a scalar, so that reduction leaves no bias

	rootDomain   = "conclave/seal/shamir/root/1"
	scalarDomain = "conclave/seal/shamir/scalar/1"
)

var curve = group.Ristretto255

// Split draws a new root secret from rand and splits it so that any threshold
// of the shares recover it and fewer tell nothing about it (beyond what the
// commitments do: a discrete logarithm in ristretto255). Share i has index i,
// from 1. The root is not the shared scalar but derived from it by HKDF-SHA256,
// so that it is uniform bytes.
//
// Parameters out of range give an error that wraps one of the parameter
// sentinels; a failing rand gives its error. The caller owns, and must wipe,
// the root and the shares. Nothing is durable.
//
// circl's own splitter is not used: for ristretto255 it ignores the reader it
// is given, and randomness is a parameter here.
func Split(rand io.Reader, threshold, shares int) (redact.Bytes, []Share, Commitments, error) {
	fail := func(err error) (redact.Bytes, []Share, Commitments, error) {
		return redact.Bytes{}, nil, Commitments{}, err
	}
	if err := CheckParameters(threshold, shares); err != nil {
		return fail(err)
	}
	p, err := newPolynomial(rand, threshold)
	if err != nil {
		return fail(err)
	}
	defer p.wipe()
	root, err := deriveRoot(p[0])
	if err != nil {
		return fail(err)
	}
	split := make([]Share, shares)
	for i := range split {
		if split[i], err = p.share(uint8(i + 1)); err != nil {
			return fail(err)
		}
	}
	return root, split, p.commit(), nil
}

// Recover returns the root secret that the commitments bind. Every share is
// verified first: a wrong one gives a WrongShareError, one given twice a
// RepeatedError, and too few a TooFewError. Shares beyond the threshold are
// verified and not needed. The caller owns the root; the shares stay his.
func Recover(c Commitments, shares []Share) (redact.Bytes, error) {
	if err := verifyDistinct(c, shares); err != nil {
		return redact.Bytes{}, err
	}
	if len(shares) < c.Threshold() {
		return redact.Bytes{}, &TooFewError{Have: len(shares), Need: c.Threshold()}
	}
	points := make([]secretsharing.Share, len(shares))
	for i, s := range shares {
		point, err := s.point()
		if err != nil {
			return redact.Bytes{}, err
		}
		points[i] = point
	}
	defer wipePoints(points)
	secret, err := secretsharing.Recover(uint(c.Threshold()-1), points)
	if err != nil {
		return redact.Bytes{}, fmt.Errorf("recovering root secret: %w", err)
	}
	defer secret.SetUint64(0)
	return deriveRoot(secret)
}

func verifyDistinct(c Commitments, shares []Share) error {
	var seen [MaxShares + 1]bool
	for _, s := range shares {
		if err := c.Verify(s); err != nil {
			return err
		}
		if seen[s.Index] {
			return &RepeatedError{Index: s.Index}
		}
		seen[s.Index] = true
	}
	return nil
}

func wipePoints(points []secretsharing.Share) {
	for _, p := range points {
		p.Value.SetUint64(0)
	}
}

// deriveRoot turns the shared scalar into key bytes (RFC 5869).
func deriveRoot(scalar group.Scalar) (redact.Bytes, error) {
	raw, err := scalar.MarshalBinary()
	if err != nil {
		return redact.Bytes{}, fmt.Errorf("encoding shared scalar: %w", err)
	}
	defer redact.Wipe(raw)
	root, err := hkdf.Key(sha256.New, raw, nil, rootDomain, RootSize)
	if err != nil {
		return redact.Bytes{}, fmt.Errorf("deriving root secret: %w", err)
	}
	return redact.New(root), nil
}
