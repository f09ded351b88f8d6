package core

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
)

// A wrapped answer is a record under the keyed hash of a token that opens it
// once: it is owned by a lease of the same key, and to read it is to revoke that
// lease. The record is guarded, so of several who unwrap at once, on whichever
// nodes, one reads.

// wrapping is what becomes of an answer that is to wait for its one reader.
type wrapping struct {
	ttl   time.Duration
	path  string
	reply *Reply
}

// WrapInfo is what the caller is told instead of the answer.
type WrapInfo struct {
	Token           redact.Bytes
	Accessor        string
	TTL             time.Duration
	CreatedAt       time.Time
	CreationPath    string
	WrappedAccessor string
}

// Wrapped is a wrapped answer.
type Wrapped struct {
	*storev1.Wrapped
	key fsm.Key
}

// wrappedBody is how an answer lies in the ledger.
type wrappedBody struct {
	Data      json.RawMessage `json:"data,omitempty"`
	Warnings  []string        `json:"warnings,omitempty"`
	MountType string          `json:"mount_type,omitempty"`
	Auth      *wrappedAuth    `json:"auth,omitempty"`
}

type wrappedAuth struct {
	Text      string         `json:"text"`
	Token     *storev1.Token `json:"token"`
	TTL       time.Duration  `json:"ttl"`
	Renewable bool           `json:"renewable"`
	Expires   fsm.LogTime    `json:"expires,omitempty"`  // of a batch token
	Accessor  string         `json:"accessor,omitempty"` // of any other
	EntityID  string         `json:"entity_id,omitempty"`
}

// wrap stages an answer to wait for its reader, and answers with the way to it.
// What only the commit would tell is dated by the view: the answer must be in the
// batch that it answers for.
func (t *tx) wrap(answer reply) (reply, error) {
	w := answer.wrap
	answer.finish(engine.Commit{Index: t.view.Index(), Time: t.Now()})
	body, err := encodeWrapped(w.reply)
	if err != nil {
		return reply{}, err
	}
	row := &storev1.Wrapped{Body: body, CreationPath: w.path}
	if w.reply.Auth != nil {
		row.WrappedAccessor = w.reply.Auth.Token.Accessor
	}
	info, err := t.stageWrapped(row, w.ttl)
	if err != nil {
		return reply{}, err
	}
	out := &Reply{Wrap: info, MountType: w.reply.MountType}
	return reply{value: out, intent: answer.intent, finish: func(c engine.Commit) { out.Index, info.CreatedAt = c.Index, c.Time }}, nil
}

// maxWrapped bounds what can be wrapped, in bytes, so that with all that belongs to
// it it is a value that the ledger takes.
const maxWrapped = fsm.MaxValueSize - 64<<10

// stageWrapped gives row a token of its own and stages it.
func (t *tx) stageWrapped(row *storev1.Wrapped, ttl time.Duration) (*WrapInfo, error) {
	if len(row.Body) > maxWrapped {
		return nil, &engine.TooLargeError{What: "answer to wrap", Bytes: len(row.Body), Limit: maxWrapped}
	}
	text, err := newToken(t.rand)
	if err != nil {
		return nil, err
	}
	accessor, err := randomText(t.rand, tokenRandom)
	if err != nil {
		return nil, err
	}
	row.CreatedAt, row.Ttl, row.Accessor = timestampOf(t.Now()), durationpb.New(ttl), string(accessor)
	key, err := wrappingKey(t, text)
	if err != nil {
		return nil, err
	}
	t.stage(fsm.Operation{Kind: fsm.OpGrantLease, Key: key, TTL: ttl, MaxTTL: ttl, State: fsm.LeaseActive})
	if err := t.putMessage(key, row, key); err != nil {
		return nil, err
	}
	return &WrapInfo{Token: text, Accessor: row.Accessor, TTL: ttl, CreatedAt: t.Now(), CreationPath: row.CreationPath,
		WrappedAccessor: row.WrappedAccessor}, nil
}

func wrappingKey(t *tx, text redact.Bytes) (fsm.Key, error) {
	return hashedKey(t.barrier, spaceWrapping, "wrapping", text.Expose())
}

// FindWrapped returns the wrapped answer that a token opens, nil if there is none.
func (t *tx) FindWrapped(text redact.Bytes) (*Wrapped, error) {
	if text.Len() == 0 || text.Len() > maxTokenBytes {
		return nil, nil
	}
	key, err := wrappingKey(t, text)
	if err != nil {
		return nil, err
	}
	w := &Wrapped{&storev1.Wrapped{}, key}
	if r, err := t.message(key, w.Wrapped); err != nil || r == nil {
		return nil, err
	}
	return w, nil
}

// Unwrap stages the end of a wrapped answer and returns what it was.
func (t *tx) Unwrap(w *Wrapped) (*Reply, error) {
	t.stage(fsm.Operation{Kind: fsm.OpRevokeLease, Key: w.key})
	return decodeWrapped(w.Body)
}

// Rewrap stages the end of a wrapped answer and a new token for it.
func (t *tx) Rewrap(w *Wrapped) (*WrapInfo, error) {
	t.stage(fsm.Operation{Kind: fsm.OpRevokeLease, Key: w.key})
	return t.stageWrapped(cloneMessage(w.Wrapped), w.Ttl.AsDuration())
}

func encodeWrapped(r *Reply) ([]byte, error) {
	body := wrappedBody{Warnings: r.Warnings, MountType: r.MountType}
	if r.Data != nil {
		data, err := engine.MarshalJSON(r.Data)
		if err != nil {
			return nil, fmt.Errorf("encoding an answer to wrap: %w", err)
		}
		body.Data = data
	}
	if r.Auth != nil {
		body.Auth = &wrappedAuth{string(r.Auth.Text), r.Auth.Token.Token, r.Auth.TTL, r.Auth.Renewable, r.Auth.Token.expires, r.Auth.Token.Accessor, r.Auth.Token.EntityID}
	}
	p, err := engine.MarshalJSON(body)
	if err != nil {
		return nil, fmt.Errorf("encoding an answer to wrap: %w", err)
	}
	return p, nil
}

func decodeWrapped(p []byte) (*Reply, error) {
	var body wrappedBody
	if err := json.Unmarshal(p, &body); err != nil {
		return nil, fmt.Errorf("reading a wrapped answer: it is damaged")
	}
	r := &Reply{MountType: body.MountType}
	r.Warnings = body.Warnings
	if body.Data != nil {
		r.Data = body.Data
	}
	if a := body.Auth; a != nil {
		r.Auth = &Auth{Token: &Token{Token: a.Token, Accessor: a.Accessor, EntityID: a.EntityID, expires: a.Expires}, Text: []byte(a.Text), TTL: a.TTL, Renewable: a.Renewable}
	}
	return r, nil
}
