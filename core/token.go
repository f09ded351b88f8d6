package core

import (
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/policy"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// A token is a record under its keyed hash, a lease that owns it and whatever
// else belongs to it, and an accessor that leads to it: one batch, one entry.
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

// accessorKey is the record that leads from an accessor to its token.
func accessorKey(b *seal.Barrier, accessor string) (fsm.Key, error) {
	return hashedKey(b, spaceAccessor, "accessor", []byte(accessor))
}

// A Caller is who sends a request, as the transport knows it.
type Caller struct {
	Token   redact.Bytes // empty: none was sent
	Address netip.Addr   // zero: unknown
	Reason  string       // why, in the caller's own words
}

// identity is who a caller turned out to be.
type identity struct {
	key   fsm.Key // of the token's record
	lease fsm.Key // nil: the token has none and never ends
	token *storev1.Token
	acl   *policy.ACL
}

// hash is the keyed hash that the token is stored under; the caller owns it.
func (i *identity) hash() []byte { return slices.Clone(i.key[1:]) }

// identify finds the caller's token. The record is guarded: a write of a token
// that is revoked meanwhile conflicts and fails; so are its policies.
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
	who, err := t.identityAt(key)
	if err != nil || who == nil {
		return nil, firstError(err, errBadToken())
	}
	if !boundTo(who.token.BoundCidrs, c.Address) {
		return nil, errBadToken()
	}
	who.acl, err = t.accessOf(who.token)
	return who, err
}

// identityAt reads the token at key; nil when there is none.
func (t *tx) identityAt(key fsm.Key) (*identity, error) {
	who := &identity{key: key, token: &storev1.Token{}}
	r, err := t.message(key, who.token)
	if err != nil || r == nil {
		return nil, err
	}
	who.lease = r.Lease
	return who, nil
}

var rootAccess = policy.Compile(policy.Root())

// accessOf compiles what a token may do.
func (t *tx) accessOf(token *storev1.Token) (*policy.ACL, error) {
	if token.Root {
		return rootAccess, nil
	}
	return t.acl(token.Policies)
}

// boundTo tells whether an address lies in one of the ranges; no ranges: always.
func boundTo(ranges []string, address netip.Addr) bool {
	return len(ranges) == 0 || slices.ContainsFunc(ranges, func(r string) bool {
		p, err := netip.ParsePrefix(r)
		return err == nil && p.Contains(address.Unmap())
	})
}

func errBadToken() *Error {
	return refuse(conclavev1.Reason_REASON_UNAUTHENTICATED, "the token is not valid", "it may be mistyped, revoked or expired, or belong to another cluster")
}

// TokenSpec is what a new token shall be.
type TokenSpec struct {
	Settings    engine.TokenSettings
	DisplayName string
	Metadata    map[string]string
	Role        string
	Path        string   // of the request
	Mount       string   // id of the auth mount; "": of none
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
	Lease *fsm.Lease // nil: it has none

	key, lease fsm.Key
}

// NewToken is a token that a transaction staged. Text is shown once.
type NewToken struct {
	Token
	Text redact.Bytes
	TTL  time.Duration // 0: endless
}

// ErrTokenExists: a token of the chosen text exists.
var ErrTokenExists = errors.New("the token exists already")

// CreateToken stages a token: lease, record and accessor.
func (t *tx) CreateToken(s TokenSpec) (*NewToken, error) {
	text := redact.New([]byte(s.Text))
	if s.Text == "" {
		var err error
		if text, err = newToken(t.rand); err != nil {
			return nil, err
		}
	}
	accessor, err := randomText(t.rand, tokenRandom)
	if err != nil {
		return nil, err
	}
	ttl, maxTTL := s.times()
	token := &storev1.Token{
		Name: s.DisplayName, Root: slices.Contains(s.Policies, "root"), CreatedAt: timestampOf(t.Now()), Accessor: string(accessor),
		Policies: s.Policies, Metadata: s.Metadata, Path: s.Path, UsesLeft: uint64(s.Settings.NumUses), Orphan: s.Parent == nil,
		Renewable: s.Renewable && !s.Endless, Period: durationpb.New(time.Duration(s.Settings.Period)),
		ExplicitMaxTtl: durationpb.New(time.Duration(s.Settings.ExplicitMaxTTL)), CreationTtl: durationpb.New(ttl),
		Role: s.Role, BoundCidrs: s.Settings.BoundCIDRs, Mount: s.Mount,
	}
	key, err := tokenKey(t.barrier, text)
	if err != nil {
		return nil, err
	}
	if r, err := t.row(key); err != nil || r != nil {
		return nil, firstError(err, ErrTokenExists)
	}
	op := fsm.Operation{Kind: fsm.OpGrantLease, Key: key, TTL: ttl, MaxTTL: maxTTL, State: fsm.LeaseActive}
	if s.Endless {
		op.TTL, op.MaxTTL = fsm.MaxTTL, 0
		token.CreationTtl = nil
	}
	if s.Parent != nil {
		op.Lease = s.Parent.lease
	}
	if s.Mount != "" {
		op.Groups = []fsm.Key{mountGroup(s.Mount)}
	}
	if err := t.stageToken(op, token); err != nil {
		return nil, err
	}
	return &NewToken{Token{token, nil, key, key}, text, token.CreationTtl.AsDuration()}, nil
}

// stageToken stages the lease of a token, the token under the lease's key, and
// its accessor.
func (t *tx) stageToken(grant fsm.Operation, token *storev1.Token) error {
	t.stage(grant)
	if err := t.putMessage(grant.Key, token, grant.Key); err != nil {
		return err
	}
	accessor, err := accessorKey(t.barrier, token.Accessor)
	if err != nil {
		return err
	}
	return t.putMessage(accessor, &storev1.Accessor{Token: grant.Key[1:]}, grant.Key)
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
	return t.CreateToken(TokenSpec{
		Settings: l.Token, DisplayName: l.DisplayName, Metadata: l.Metadata, Path: path, Mount: m.ID, Renewable: true,
		Policies: slices.Compact(policies), DefaultTTL: m.DefaultTTL, MaxTTL: m.MaxTTL,
	})
}

// TokenByText returns a token that is alive, nil if there is none.
func (t *tx) TokenByText(text redact.Bytes) (*Token, error) {
	if text.Len() == 0 || text.Len() > maxTokenBytes {
		return nil, nil
	}
	key, err := tokenKey(t.barrier, text)
	if err != nil {
		return nil, err
	}
	return t.tokenAt(key)
}

// TokenByAccessor returns the token that an accessor leads to, nil if there is none.
func (t *tx) TokenByAccessor(accessor string) (*Token, error) {
	if accessor == "" || len(accessor) > maxTokenBytes {
		return nil, nil
	}
	key, err := accessorKey(t.barrier, accessor)
	if err != nil {
		return nil, err
	}
	var a storev1.Accessor
	if r, err := t.message(key, &a); err != nil || r == nil {
		return nil, err
	}
	return t.tokenAt(append(fsm.Key{byte(spaceToken)}, a.Token...))
}

func (t *tx) tokenAt(key fsm.Key) (*Token, error) {
	who, err := t.identityAt(key)
	if err != nil || who == nil {
		return nil, err
	}
	token := &Token{Token: who.token, key: who.key, lease: who.lease}
	if who.lease != nil {
		if token.Lease, _, err = t.view.Lease(who.lease); err != nil {
			return nil, err
		}
	}
	return token, nil
}

// OwnToken is the token of the request; nil when it needs none.
func (t *tx) OwnToken() (*Token, error) {
	if t.who == nil {
		return nil, nil
	}
	return t.tokenAt(t.who.key)
}

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

// RevokeToken stages the end of a token with all that it owns; with orphan, its
// children stay, as orphans.
func (t *tx) RevokeToken(token *Token) {
	if token.lease == nil {
		t.stage(fsm.Operation{Kind: fsm.OpDeleteRecord, Key: token.key})
		return
	}
	t.stage(fsm.Operation{Kind: fsm.OpRevokeLease, Key: token.lease})
}

// use counts one use of a token that has a limit; the last one ends it. The
// record is guarded, so no use is counted twice or lost, on whichever nodes
// requests run at once.
func (t *tx) use(who *identity) error {
	left := who.token.UsesLeft
	if left == 1 {
		t.stage(fsm.Operation{Kind: fsm.OpRevokeLease, Key: who.lease})
		return nil
	}
	token := cloneMessage(who.token)
	token.UsesLeft = left - 1
	return t.putMessage(who.key, token, who.lease)
}

// CallerToken is what the caller sent as its token, whatever that is.
func (t *tx) CallerToken() redact.Bytes { return t.caller.Token }

// CapabilitiesOf tells what a token may do on a path, in the words of policies.
func (t *tx) CapabilitiesOf(token *Token, path string) ([]string, error) {
	acl, err := t.accessOf(token.Token)
	if err != nil {
		return nil, err
	}
	return acl.Capabilities(path), nil
}

// CallerPolicies are the policies of the caller's token, and whether it may do everything.
func (t *tx) CallerPolicies() (names []string, root bool) {
	if t.who == nil {
		return nil, false
	}
	return t.who.token.Policies, t.who.token.Root
}

// MaySudo tells whether the caller has the capability sudo on a path.
func (t *tx) MaySudo(path string) bool {
	return t.who != nil && t.who.acl.Decide(policy.Request{Path: path, Capability: policy.CapabilityUpdate, Sudo: true, Reason: t.caller.Reason}).Allowed
}
