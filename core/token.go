package core

import (
	"bytes"
	"encoding/base32"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// tokenPrefix makes a token recognisable, to people and to scanners for leaks.
const tokenPrefix = "cvt_"

// maxTokenBytes bounds what is hashed for a caller who is not known yet.
const maxTokenBytes = 256

var tokenLetters = base32.StdEncoding.WithPadding(base32.NoPadding)

// newToken draws a token of 256 random bits.
func newToken(rand io.Reader) (redact.Bytes, error) {
	raw := make([]byte, 32)
	defer redact.Wipe(raw)
	if _, err := io.ReadFull(rand, raw); err != nil {
		return redact.Bytes{}, fmt.Errorf("drawing token: %w", err)
	}
	return redact.New([]byte(tokenPrefix + strings.ToLower(tokenLetters.EncodeToString(raw)))), nil
}

// tokenKey is where a token's record lies. The store holds the keyed hash only:
// who reads the disk cannot tell a token, nor test a guess without the key.
func tokenKey(b *seal.Barrier, token redact.Bytes) (fsm.Key, error) {
	id, err := b.ID("token", token.Expose())
	if err != nil {
		return nil, err
	}
	return append(fsm.Key{byte(spaceToken)}, id...), nil
}

// A Caller is who sends a request, as the transport knows it.
type Caller struct {
	Token redact.Bytes // empty: none was sent
}

// identity is who a caller turned out to be.
type identity struct {
	key   fsm.Key
	token *storev1.Token
}

// hash is the keyed hash that the token is stored under; the caller owns it.
func (i *identity) hash() []byte { return bytes.Clone(i.key[1:]) }

// identify finds the caller's token. The record is guarded: a write of a token
// that is revoked meanwhile conflicts and fails.
func (t *tx) identify(c Caller) (*identity, error) {
	if c.Token.Len() == 0 {
		return nil, refuse(conclavev1.Reason_REASON_UNAUTHENTICATED, "no token was sent", "set CONCLAVE_TOKEN, or send the metadata authorization: Bearer TOKEN")
	}
	if c.Token.Len() > maxTokenBytes {
		return nil, errBadToken()
	}
	key, err := tokenKey(t.barrier, c.Token)
	if err != nil {
		return nil, err
	}
	r, value, err := t.record(key)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errBadToken()
	}
	token := &storev1.Token{}
	if err := proto.Unmarshal(value, token); err != nil {
		return nil, fmt.Errorf("reading a token: %w", err)
	}
	return &identity{key: key, token: token}, nil
}

func errBadToken() *Error {
	return refuse(conclavev1.Reason_REASON_UNAUTHENTICATED, "the token is not valid", "it may be mistyped, revoked or expired, or belong to another cluster")
}

// authorise decides whether the identity may do what it asks. The root token,
// the only one there is until policies exist, may do everything.
func (i *identity) authorise() error {
	if i.token.Root {
		return nil
	}
	return refuse(conclavev1.Reason_REASON_DENIED, "permission denied", "")
}
