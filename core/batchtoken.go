package core

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// A batch token is stored nowhere: its text is what a service token's record
// would say, sealed. To make one changes nothing, so it costs no entry, and a
// thousand logins in a second are a thousand reads. The price: it cannot be
// renewed, limited in its uses, revoked by itself or own anything. It ends with
// its time, with the token that made it, and with its mount.

const (
	batchPrefix = "hvb."
	// maxBatchBytes bounds the text of a batch token: it is sent with each request.
	maxBatchBytes = 4 << 10
)

// batchPlace is what batch tokens are sealed to. No record ever lies there, so no
// row of the ledger opens as a token, and no token as a row.
var batchPlace = fsm.Key{byte(spaceBatch)}

func isBatchToken(text redact.Bytes) bool { return bytes.HasPrefix(text.Expose(), []byte(batchPrefix)) }

func (t *tx) createBatchToken(s TokenSpec, token *storev1.Token, entity string, ttl time.Duration) (*NewToken, error) {
	switch {
	case s.Settings.NumUses > 0:
		return nil, &engine.InvalidError{Why: "batch tokens cannot have a limited number of uses"}
	case s.Settings.Period > 0:
		return nil, &engine.InvalidError{Why: "batch tokens cannot be periodic"}
	case s.Text != "" || s.Endless || token.Root:
		return nil, &engine.InvalidError{Why: "batch tokens cannot be root tokens, live for ever or have a chosen id"}
	case s.Parent != nil && s.Parent.Batch():
		return nil, &engine.InvalidError{Why: "batch tokens cannot create more tokens"}
	}
	if !t.writes {
		// A token that is handed out is an effect, though the ledger knows nothing of it:
		// it must not rest on a view as old as a reader puts up with.
		return nil, errStaged
	}
	text, err := t.sealBatchToken(token, s.Parent, ttl)
	if err != nil {
		return nil, err
	}
	return &NewToken{Token{Token: token, EntityID: entity, expires: t.view.Time().Add(ttl)}, text, ttl}, nil
}

// sealBatchToken makes the text of a token that lives for ttl from now on.
func (t *tx) sealBatchToken(token *storev1.Token, parent *Token, ttl time.Duration) (redact.Bytes, error) {
	b := &storev1.BatchToken{Token: token, ExpiresAt: int64(t.view.Time().Add(ttl))}
	if parent != nil {
		b.Parent = parent.key[1:]
	}
	plain, err := proto.Marshal(b)
	if err != nil {
		return redact.Bytes{}, fmt.Errorf("encoding a batch token: %w", err)
	}
	sealed, err := t.barrier.Seal(seal.TableRecord, batchPlace, 0, plain)
	if err != nil {
		return redact.Bytes{}, err
	}
	text := base64.RawURLEncoding.AppendEncode([]byte(batchPrefix), sealed)
	if len(text) > maxBatchBytes {
		return redact.Bytes{}, &engine.InvalidError{Why: fmt.Sprintf("a batch token carries its policies and metadata, and these make it longer than %d bytes", maxBatchBytes)}
	}
	return redact.New(text), nil
}

// openBatchToken reads a batch token; nil when it is none of this cluster's, or
// what it rests on has ended. Its end, its mount and the token that made it are
// guarded.
func (t *tx) openBatchToken(text redact.Bytes) (*identity, error) {
	if text.Len() > maxBatchBytes {
		return nil, nil
	}
	sealed, err := decodeBatchToken(text.Expose()[len(batchPrefix):])
	if err != nil {
		return nil, nil
	}
	plain, err := t.openSealed(seal.TableRecord, batchPlace, 0, sealed)
	var (
		foreign *seal.AuthenticationError
		unknown *seal.UnknownKeyError
	)
	switch {
	case errors.As(err, &foreign), errors.As(err, &unknown), errors.Is(err, seal.ErrFormat), errors.Is(err, seal.ErrNewerFormat):
		return nil, nil
	case err != nil:
		return nil, err
	}
	b := &storev1.BatchToken{}
	if err := proto.Unmarshal(plain, b); err != nil || b.Token == nil {
		return nil, errors.New("reading a batch token: it was sealed by this cluster and is damaged")
	}
	if t.view.Time() >= fsm.LogTime(b.ExpiresAt) {
		return nil, nil
	}
	t.guard(fsm.Guard{Kind: fsm.GuardBefore, Key: batchPlace, Number: uint64(b.ExpiresAt)})
	table, err := t.mounts()
	if err != nil || table.byID[b.Token.Mount] == nil {
		return nil, err
	}
	if len(b.Parent) > 0 {
		if parent, err := t.identityAt(append(fsm.Key{byte(spaceToken)}, b.Parent...)); err != nil || parent == nil {
			return nil, err
		}
	}
	key, err := hashedKey(t.barrier, spaceBatch, "batch token", text.Expose())
	if err != nil {
		return nil, err
	}
	entity, err := entityOf(t.barrier, b.Token.Alias)
	return &identity{key: key, token: &Token{Token: b.Token, EntityID: entity, key: key, expires: fsm.LogTime(b.ExpiresAt)}}, err
}

// decodeBatchToken undoes the spelling of a token. It takes one spelling only: the
// text is what the token is known by.
func decodeBatchToken(text []byte) ([]byte, error) {
	if bytes.ContainsAny(text, "\r\n") { // which the decoder passes over
		return nil, errors.New("a batch token has a line break")
	}
	return base64.RawURLEncoding.Strict().DecodeString(string(text))
}
