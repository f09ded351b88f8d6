package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
)

// publicKey is a key that tokens may be signed with.
type publicKey struct {
	kid string // "": it has no name
	alg string // "": any that fits its type
	key crypto.PublicKey
}

// maxKeys bounds how many keys a token is tried with.
const maxKeys = 100

var errKey = errors.New("is no public key of a kind that can sign tokens")

// parsePEM reads a public key or a certificate.
func parsePEM(text string) (crypto.PublicKey, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errKey
	}
	var (
		key crypto.PublicKey
		err error
	)
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = c.PublicKey
		}
	default:
		err = errKey
	}
	if err != nil || !strong(key) {
		return nil, errKey
	}
	return key, nil
}

// strong tells whether a key is of a kind that an algorithm takes, and neither so
// small that it can be forged nor so large that it costs too much.
func strong(key crypto.PublicKey) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048 && k.N.BitLen() <= 8192 && k.E >= 3
	case *ecdsa.PublicKey:
		return k.Curve == elliptic.P256() || k.Curve == elliptic.P384() || k.Curve == elliptic.P521()
	case ed25519.PublicKey:
		return len(k) == ed25519.PublicKeySize
	}
	return false
}

// jwk is a key of a set (RFC 7517). Fields of other kinds are not read.
type jwk struct {
	Kty, Use, Alg, Kid, Crv, X, Y, N, E string
	KeyOps                              []string `json:"key_ops"`
}

var errKeySet = errors.New("is no set of keys")

// parseJWKS reads a set of keys. What it does not know it leaves out, as the RFC
// demands: sets are shared by programs of all kinds and ages.
func parseJWKS(p []byte) ([]publicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(p, &set); err != nil || set.Keys == nil {
		return nil, errKeySet
	}
	var keys []publicKey
	for _, raw := range set.Keys {
		var k jwk
		if json.Unmarshal(raw, &k) != nil || k.Use != "" && k.Use != "sig" || len(k.KeyOps) > 0 && !slices.Contains(k.KeyOps, "verify") {
			continue
		}
		if key := k.public(); key != nil && strong(key) {
			keys = append(keys, publicKey{k.Kid, k.Alg, key})
		}
		if len(keys) > maxKeys {
			return nil, errKeySet
		}
	}
	return keys, nil
}

// public returns the key, nil if it is none that is known.
func (k *jwk) public() crypto.PublicKey {
	switch k.Kty {
	case "RSA":
		return k.rsa()
	case "EC":
		return k.ecdsa()
	case "OKP":
		if x, err := decode(k.X); err == nil && k.Crv == "Ed25519" && len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x)
		}
	}
	return nil
}

func (k *jwk) rsa() crypto.PublicKey {
	n, nErr := decode(k.N)
	e, eErr := decode(k.E)
	if nErr != nil || eErr != nil || len(n) > 1024+1 || len(e) == 0 || len(e) > 4 {
		return nil
	}
	exponent := new(big.Int).SetBytes(e)
	if exponent.BitLen() > 31 || exponent.Bit(0) == 0 {
		return nil
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}
}

func (k *jwk) ecdsa() crypto.PublicKey {
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k.Crv]
	if curve == nil {
		return nil
	}
	size := (curve.Params().BitSize + 7) / 8
	x, xErr := decode(k.X)
	y, yErr := decode(k.Y)
	if xErr != nil || yErr != nil || len(x) != size || len(y) != size {
		return nil
	}
	// It checks that the point is on the curve.
	key, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil
	}
	return key
}
