package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // linked in for crypto.SHA256
	_ "crypto/sha512" // linked in for crypto.SHA384 and crypto.SHA512
	"math/big"
)

// An algorithm verifies signatures (RFC 7518, section 3; RFC 8037).
//
// Invariant: it takes keys of one type only, so that a token cannot choose how a
// key is used. "none" and the symmetric ones are not among them: a public key
// never serves as the secret of an HMAC.
type algorithm struct {
	hash   crypto.Hash // 0: the message itself is signed
	curve  elliptic.Curve
	verify func(a algorithm, key crypto.PublicKey, digest, signature []byte) bool
}

var algorithms = map[string]algorithm{
	"RS256": {crypto.SHA256, nil, verifyPKCS1}, "RS384": {crypto.SHA384, nil, verifyPKCS1}, "RS512": {crypto.SHA512, nil, verifyPKCS1},
	"PS256": {crypto.SHA256, nil, verifyPSS}, "PS384": {crypto.SHA384, nil, verifyPSS}, "PS512": {crypto.SHA512, nil, verifyPSS},
	"ES256": {crypto.SHA256, elliptic.P256(), verifyECDSA}, "ES384": {crypto.SHA384, elliptic.P384(), verifyECDSA},
	"ES512": {crypto.SHA512, elliptic.P521(), verifyECDSA},
	"EdDSA": {0, nil, verifyEd25519},
}

// signedBy tells whether key made the signature of message.
func (a algorithm) signedBy(key crypto.PublicKey, message, signature []byte) bool {
	digest := message
	if a.hash != 0 {
		h := a.hash.New()
		h.Write(message) // a hash.Hash never fails
		digest = h.Sum(nil)
	}
	return a.verify(a, key, digest, signature)
}

func verifyPKCS1(a algorithm, key crypto.PublicKey, digest, signature []byte) bool {
	k, ok := key.(*rsa.PublicKey)
	return ok && rsa.VerifyPKCS1v15(k, a.hash, digest, signature) == nil
}

func verifyPSS(a algorithm, key crypto.PublicKey, digest, signature []byte) bool {
	k, ok := key.(*rsa.PublicKey)
	return ok && rsa.VerifyPSS(k, a.hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
}

func verifyECDSA(a algorithm, key crypto.PublicKey, digest, signature []byte) bool {
	k, ok := key.(*ecdsa.PublicKey)
	size := (a.curve.Params().BitSize + 7) / 8
	if !ok || k.Curve != a.curve || len(signature) != 2*size {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:])
	return ecdsa.Verify(k, digest, r, s)
}

func verifyEd25519(_ algorithm, key crypto.PublicKey, message, signature []byte) bool {
	k, ok := key.(ed25519.PublicKey)
	return ok && len(signature) == ed25519.SignatureSize && ed25519.Verify(k, message, signature)
}
