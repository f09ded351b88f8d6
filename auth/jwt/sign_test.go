package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"sync"
	"testing"
)

// signer signs tokens for tests.
type signer struct {
	alg, kid string
	key      crypto.Signer
}

func encode(p []byte) string { return base64.RawURLEncoding.EncodeToString(p) }

func (s signer) token(t testing.TB, claims any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	header := map[string]any{"alg": s.alg, "typ": "JWT"}
	if s.kid != "" {
		header["kid"] = s.kid
	}
	return s.sign(t, header, payload)
}

func (s signer) sign(t testing.TB, header map[string]any, payload []byte) string {
	t.Helper()
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	signed := encode(h) + "." + encode(payload)
	signature, err := s.signature([]byte(signed))
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(signature)
}

func (s signer) signature(message []byte) ([]byte, error) {
	a := algorithms[s.alg]
	digest := message
	if a.hash != 0 {
		h := a.hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	switch key := s.key.(type) {
	case *ecdsa.PrivateKey:
		r, ss, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			return nil, err
		}
		size := (key.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), ss.FillBytes(make([]byte, size))...), nil
	case *rsa.PrivateKey:
		if s.alg[0] == 'P' {
			return rsa.SignPSS(rand.Reader, key, a.hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
	}
	return s.key.Sign(rand.Reader, digest, a.hash)
}

func hmacOf(key, message []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(message)
	return m.Sum(nil)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// The keys of the tests: made once, for RSA takes its time.
var (
	ed25519Key = ed25519.NewKeyFromSeed(make([]byte, 32))
	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKeys     = sync.OnceValue(func() map[string]*ecdsa.PrivateKey {
		return map[string]*ecdsa.PrivateKey{
			"ES256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
			"ES384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
			"ES512": must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		}
	})
)

func keyFor(alg string) crypto.Signer {
	switch alg[0] {
	case 'R', 'P':
		return rsaKey()
	case 'E':
		if key, ok := ecKeys()[alg]; ok {
			return key
		}
	}
	return ed25519Key
}

func pemOf(key crypto.PublicKey) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(key))}))
}

// jwkOf spells a public key as a member of a set.
func jwkOf(kid string, key crypto.PublicKey) map[string]any {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return map[string]any{"kty": "RSA", "kid": kid, "n": encode(k.N.Bytes()), "e": encode(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PublicKey:
		point := must(k.Bytes())[1:]
		crv := map[elliptic.Curve]string{elliptic.P256(): "P-256", elliptic.P384(): "P-384", elliptic.P521(): "P-521"}[k.Curve]
		return map[string]any{"kty": "EC", "kid": kid, "crv": crv, "x": encode(point[:len(point)/2]), "y": encode(point[len(point)/2:])}
	case ed25519.PublicKey:
		return map[string]any{"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": encode(k)}
	}
	panic("no such key")
}

func setOf(keys ...map[string]any) []byte { return must(json.Marshal(map[string]any{"keys": keys})) }
