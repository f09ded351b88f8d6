package core

import (
	"bytes"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// A token is a record under its keyed hash and a lease that owns it and whatever
// else belongs to it: one batch, one entry. Its accessor is made from the hash.
// The lease has the token's times and its place in the tree: a parent's lease
// owns its children's, so they end together. The record's key is the lease's, in
// another table.

// tokenPrefix and tokenLength give tokens the shape that clients and scanners
// for leaks know from Vault's service tokens.
const (
	tokenPrefix = "hvs."
	tokenRandom = 24 // base62: 142 bits
)

// maxTokenBytes bounds what is hashed for a caller who is not known yet.
const maxTokenBytes = 256

var tokenLetters = base32.StdEncoding.WithPadding(base32.NoPadding)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// randomText draws n characters of base62, each of them equally likely.
func randomText(rand io.Reader, n int) ([]byte, error) {
	out := make([]byte, 0, n)
	raw := make([]byte, 2*n)
	defer redact.Wipe(raw)
	for len(out) < n {
		if _, err := io.ReadFull(rand, raw); err != nil {
			return nil, fmt.Errorf("drawing a token: %w", err)
		}
		for _, b := range raw {
			if b < 248 && len(out) < n { // 4 × 62: what lies above would favour some
				out = append(out, base62[b%62])
			}
		}
	}
	return out, nil
}

// newToken draws a token.
func newToken(rand io.Reader) (redact.Bytes, error) {
	text, err := randomText(rand, tokenRandom)
	if err != nil {
		return redact.Bytes{}, err
	}
	defer redact.Wipe(text)
	return redact.New(append([]byte(tokenPrefix), text...)), nil
}

// tokenKey is where a token's record lies, and its lease.
func tokenKey(b *seal.Barrier, token redact.Bytes) (fsm.Key, error) {
	return hashedKey(b, spaceToken, "token", token.Expose())
}

// TokenSpec is what a new token shall be.
type TokenSpec struct {
	Settings    engine.TokenSettings
	Batch       bool // stored nowhere; see batchtoken.go
	DisplayName string
	Metadata    map[string]string
	Alias       *storev1.Alias // nil: nobody is known
	Role        string
	Path        string   // of the request
	Mount       string   // id of the auth mount
	Parent      *Token   // nil: an orphan
	Renewable   bool     //
	Endless     bool     // never expires
	Text        string   // chosen by the caller; "": drawn
	Policies    []string // complete
	// DefaultTTL and MaxTTL are those of the mount.
	DefaultTTL, MaxTTL time.Duration
}

// Token is a token as the token store shows it.
type Token struct {
	*storev1.Token
	Accessor string     // empty: a batch token, which has none
	EntityID string     // whose it is; empty: nobody is known
	Lease    *fsm.Lease // of a stored token that was looked up

	key     fsm.Key
	lease   fsm.Key     // nil: of a batch token
	expires fsm.LogTime // of a batch token
}

// Type is "service" or "batch", as clients call it.
func (t *Token) Type() string {
	if t.expires != 0 {
		return "batch"
	}
	return "service"
}

// Batch tells whether the token is stored nowhere.
func (t *Token) Batch() bool { return t.expires != 0 }

// InheritedAlias is the alias of a child of this token; nil: nobody is known.
func (t *Token) InheritedAlias() *storev1.Alias {
	if t.Alias == nil {
		return nil
	}
	return &storev1.Alias{MountAccessor: t.Alias.MountAccessor, Name: t.Alias.Name, Inherited: true, Metadata: aliasMetadata(t.Token)}
}

// Alone tells whether no other token's end ends this one.
func (t *Token) Alone() bool { return t.Orphan || t.Lease != nil && t.Lease.Owner == nil }

// Times are those of a token that was looked up; ok is false if it never expires.
func (t *Token) Times() (issued, expires time.Time, ok bool) {
	switch {
	case t.Batch():
		return t.CreatedAt.AsTime(), t.expires.Time(), true
	case t.Lease != nil && t.CreationTtl.AsDuration() > 0:
		return t.Lease.Issued.Time(), t.Lease.Expires.Time(), true
	}
	return time.Time{}, time.Time{}, false
}

// NewToken is a token that a transaction made. Text is shown once.
type NewToken struct {
	Token
	Text redact.Bytes
	TTL  time.Duration // 0: endless
}

// ErrTokenExists: a token of the chosen text exists.
var ErrTokenExists = errors.New("the token exists already")

// CreateToken makes a token: it stages the lease and record of a service token; a batch token stages nothing. A batch token has neither a number of uses
// nor a period, a chosen text or an endless life; an InvalidError says so.
func (t *tx) CreateToken(s TokenSpec) (*NewToken, error) {
	if s.MaxTTL > 0 {
		s.Settings.Period = min(s.Settings.Period, engine.Duration(s.MaxTTL))
	}
	if s.Parent != nil && s.Parent.Lease != nil && s.Parent.Lease.Depth >= fsm.MaxLeaseDepth {
		return nil, &engine.InvalidError{Why: fmt.Sprintf("more than %d tokens would descend from one another", fsm.MaxLeaseDepth)}
	}
	ttl, maxTTL := s.times()
	token := &storev1.Token{
		Name: s.DisplayName, Root: slices.Contains(s.Policies, "root"), CreatedAt: timestampOf(t.Now()), Policies: s.Policies,
		Metadata: s.Metadata, Path: s.Path, Orphan: s.Parent == nil, CreationTtl: durationpb.New(ttl), Role: s.Role,
		BoundCidrs: s.Settings.BoundCIDRs, Mount: s.Mount, Alias: s.Alias,
	}
	entity, err := entityOf(t.barrier, s.Alias)
	if err != nil {
		return nil, err
	}
	if s.Batch {
		return t.createBatchToken(s, token, entity, ttl)
	}
	token.UsesLeft, token.Renewable = uint64(s.Settings.NumUses), s.Renewable && !s.Endless
	token.Period = durationpb.New(time.Duration(s.Settings.Period))
	token.ExplicitMaxTtl = durationpb.New(time.Duration(s.Settings.ExplicitMaxTTL))
	text, key, err := t.newTokenText(s.Text)
	if err != nil {
		return nil, err
	}
	accessor, err := accessorOf(t.barrier, key)
	if err != nil {
		return nil, err
	}
	op := fsm.Operation{Kind: fsm.OpGrantLease, Key: key, TTL: ttl, MaxTTL: maxTTL, State: fsm.LeaseActive, Groups: []fsm.Key{mountGroup(s.Mount)}}
	if s.Endless {
		op.TTL, op.MaxTTL = fsm.MaxTTL, 0
		token.CreationTtl = nil
	}
	if s.Parent != nil {
		op.Lease = s.Parent.lease
	}
	if err := t.stageToken(op, token); err != nil {
		return nil, err
	}
	return &NewToken{Token{Token: token, Accessor: accessor, EntityID: entity, key: key, lease: key}, text, token.CreationTtl.AsDuration()}, nil
}

// newTokenText draws a token, or takes the one that was chosen, and returns where
// its record will lie.
func (t *tx) newTokenText(chosen string) (text redact.Bytes, key fsm.Key, err error) {
	if text = redact.New([]byte(chosen)); chosen == "" {
		if text, err = newToken(t.rand); err != nil {
			return text, nil, err
		}
	}
	if key, err = tokenKey(t.barrier, text); err != nil {
		return text, nil, err
	}
	r, err := t.row(key)
	if err == nil && r != nil {
		err = ErrTokenExists
	}
	return text, key, err
}

// stageToken stages the lease of a token, and the token under the lease's key.
func (t *tx) stageToken(grant fsm.Operation, token *storev1.Token) error {
	grant.Tally = tokenTally
	t.stage(grant)
	return t.putMessage(grant.Key, token, grant.Key)
}

// times returns for how long a token lives at first, and at most (0: for ever,
// as long as it is renewed).
func (s *TokenSpec) times() (ttl, maxTTL time.Duration) {
	limit := s.MaxTTL
	if own := time.Duration(s.Settings.MaxTTL); own > 0 && own < limit {
		limit = own
	}
	ttl = time.Duration(s.Settings.TTL)
	if ttl == 0 {
		ttl = s.DefaultTTL
	}
	if period := time.Duration(s.Settings.Period); period > 0 {
		ttl, limit = period, 0
	}
	if explicit := time.Duration(s.Settings.ExplicitMaxTTL); explicit > 0 && (limit == 0 || explicit < limit) {
		limit = explicit
	}
	if limit > 0 {
		ttl = min(ttl, limit)
	}
	return ttl, limit
}

// login makes the token of somebody who has logged in.
func (t *tx) login(m *mount, path string, l *engine.Login) (*NewToken, error) {
	policies := slices.Clone([]string(l.Token.Policies))
	if !bool(l.Token.NoDefaultPolicy) && !slices.Contains(policies, "default") {
		policies = append(policies, "default")
	}
	policies = slices.DeleteFunc(policies, func(name string) bool { return name == "root" }) // a login never makes a root token
	slices.Sort(policies)
	spec := TokenSpec{
		Settings: l.Token, Batch: batchWanted(m.row.TokenType, l.Token.Type), DisplayName: l.DisplayName, Metadata: l.Metadata,
		Path: path, Mount: m.ID, Renewable: true, Policies: slices.Compact(policies), DefaultTTL: m.DefaultTTL, MaxTTL: m.MaxTTL,
	}
	if l.Alias != "" {
		spec.Alias = &storev1.Alias{MountAccessor: m.Accessor, Name: l.Alias}
	}
	return t.CreateToken(spec)
}

// batchWanted decides between the types that a mount and a role ask for: what the
// mount insists on, else what the role insists on, else what the mount prefers.
func batchWanted(mount, role string) bool {
	for _, kind := range []string{mount, role, strings.TrimPrefix(role, "default-"), strings.TrimPrefix(mount, "default-")} {
		switch kind {
		case "batch":
			return true
		case "service":
			return false
		}
	}
	return false
}

// TokenByText returns a token that is alive, nil if there is none.
func (t *tx) TokenByText(text redact.Bytes) (*Token, error) {
	who, err := t.identityOf(text)
	return t.lookUp(who, err)
}

// TokenByAccessor returns the token that an accessor leads to, nil if there is none.
func (t *tx) TokenByAccessor(accessor string) (*Token, error) {
	prefix, ok, err := hashed(t.barrier, accessor)
	if err != nil || !ok {
		return nil, err
	}
	keys, err := t.view.Keys(fsm.Records, prefix)
	if err != nil {
		return nil, err
	}
	var key fsm.Key
	if keys.Next() {
		key = bytes.Clone(keys.Key())
	}
	if err := keys.Close(); err != nil || key == nil {
		return nil, err
	}
	return t.lookUp(t.identityAt(key))
}

// lookUp adds to a token that was found what only its lease tells.
func (t *tx) lookUp(who *identity, err error) (*Token, error) {
	if err != nil || who == nil {
		return nil, err
	}
	token := *who.token
	if token.lease != nil {
		if token.Lease, _, err = t.view.Lease(token.lease); err != nil {
			return nil, err
		}
	}
	return &token, nil
}

// OwnToken is the token of the request; nil when it needs none.
func (t *tx) OwnToken() (*Token, error) { return t.lookUp(t.who, nil) }

// Accessors lists the accessors of all tokens that are alive, at most limit.
func (t *tx) Accessors(limit int) ([]string, error) {
	keys, err := t.view.Keys(fsm.Records, fsm.Key{byte(spaceToken)})
	if err != nil {
		return nil, err
	}
	var accessors []string
	for len(accessors) < limit && keys.Next() {
		who, err := t.identityAt(keys.Key())
		if err != nil {
			return nil, firstError(err, keys.Close())
		}
		if who != nil && who.token.Accessor != "" {
			accessors = append(accessors, who.token.Accessor)
		}
	}
	slices.Sort(accessors)
	return accessors, keys.Close()
}

// RenewToken stages a renewal and returns for how long the token lives from now:
// as long as is asked for, or else as at first.
func (t *tx) RenewToken(token *Token, increment time.Duration) (time.Duration, error) {
	l := token.Lease
	ttl := increment
	if period := token.Period.AsDuration(); period > 0 {
		ttl = period
	}
	if ttl == 0 {
		ttl = token.CreationTtl.AsDuration()
	}
	t.guard(fsm.Guard{Kind: fsm.GuardLease, Key: token.lease, Number: l.Generation, State: l.State})
	t.stage(fsm.Operation{Kind: fsm.OpRenewLease, Key: token.lease, TTL: ttl})
	if l.MaxExpires != 0 {
		ttl = min(ttl, time.Duration(l.MaxExpires-t.view.Time()))
	}
	return ttl, nil
}

// RevokeToken stages the end of a service token with all that it owns.
func (t *tx) RevokeToken(token *Token) {
	t.stage(fsm.Operation{Kind: fsm.OpRevokeLease, Key: token.lease})
}

// ReleaseToken stages the end of a service token whose children live on as orphans.
func (t *tx) ReleaseToken(token *Token) {
	t.stage(fsm.Operation{Kind: fsm.OpReleaseLease, Key: token.lease})
}
