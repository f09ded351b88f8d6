package jwt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// maxTokenBytes bounds a token that is shown. Lists of groups make them long.
const maxTokenBytes = 64 << 10

// jws is a token that was taken apart, and not yet believed.
type jws struct {
	alg, kid  string
	signed    []byte
	signature []byte
	payload   []byte
}

var errMalformed = errors.New("the token is malformed")

// parseJWS takes a compact token apart (RFC 7515, section 7.1).
func parseJWS(text string) (*jws, error) {
	parts := strings.Split(text, ".")
	if len(text) > maxTokenBytes || len(parts) != 3 {
		return nil, errMalformed
	}
	var raw [3][]byte
	for i, part := range parts {
		var err error
		if raw[i], err = decode(part); err != nil || len(raw[i]) == 0 {
			return nil, errMalformed
		}
	}
	header, err := object(raw[0])
	if err != nil {
		return nil, err
	}
	t := &jws{signed: []byte(parts[0] + "." + parts[1]), signature: raw[2], payload: raw[1]}
	var isText bool
	if t.alg, isText = header["alg"].(string); !isText {
		return nil, errMalformed
	}
	if kid, sent := header["kid"]; sent {
		if t.kid, isText = kid.(string); !isText {
			return nil, errMalformed
		}
	}
	// Keys that the token itself brings or points at (jwk, jku, x5c, x5u) are
	// ignored. What it calls critical must be understood, and nothing is.
	if _, sent := header["crit"]; sent {
		return nil, errMalformed
	}
	return t, nil
}

// decode reads base64url without padding. The decoder of the standard library
// skips line breaks; they would give one token many spellings.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errMalformed
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

// object reads one JSON object and nothing after it. Names are compared as they
// are written, numbers are kept as they are written.
func object(p []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	var o map[string]any
	if err := d.Decode(&o); err != nil || o == nil {
		return nil, errMalformed
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errMalformed
	}
	return o, nil
}

// verifies tells whether one of the keys made the signature.
func (t *jws) verifies(keys []publicKey) bool {
	a, ok := algorithms[t.alg]
	if !ok {
		return false
	}
	for _, k := range keys {
		if (k.alg == "" || k.alg == t.alg) && a.signedBy(k.key, t.signed, t.signature) {
			return true
		}
	}
	return false
}
