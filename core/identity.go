package core

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/policy"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// A Caller is who sends a request, as the transport knows it.
type Caller struct {
	Token   redact.Bytes // empty: none was sent
	Address netip.Addr   // zero: unknown
	Reason  string       // why, in the caller's own words
}

// maxReason bounds a reason, in bytes: as much as the audit log keeps.
const maxReason = 512

// checkReason refuses a reason that the audit log would not show as it was sent: a
// policy may have judged by what is then cut off.
func (c Caller) checkReason() error {
	switch {
	case len(c.Reason) > maxReason:
		return refuse(conclavev1.Reason_REASON_INVALID, fmt.Sprintf("the reason of %d bytes is longer than %d", len(c.Reason), maxReason),
			"shorten it, or name a ticket that says more")
	case !utf8.ValidString(c.Reason), strings.ContainsFunc(c.Reason, unicode.IsControl):
		return refuse(conclavev1.Reason_REASON_INVALID, "the reason is not valid UTF-8, or has a control character", "give it as one line of text")
	}
	return nil
}

// identity is who a caller turned out to be.
type identity struct {
	key   fsm.Key // the keyed hash of the token; where a stored one lies
	lease fsm.Key // nil: nothing can belong to the token
	token *Token
	acl   *policy.ACL
}

// hash is the keyed hash of the token; the caller owns it.
func (i *identity) hash() []byte { return slices.Clone(i.key[1:]) }

// identify finds the caller's token. What it rests on is guarded: a write of a
// token that is revoked meanwhile conflicts and fails; so are its policies.
func (t *tx) identify(c Caller) (*identity, error) {
	if c.Token.Len() == 0 {
		return nil, refuse(conclavev1.Reason_REASON_UNAUTHENTICATED, "no token was sent", "set CONCLAVE_TOKEN, or send the metadata authorization: Bearer TOKEN")
	}
	who, err := t.identityOf(c.Token)
	if err != nil || who == nil {
		return nil, firstError(err, errBadToken())
	}
	if !auth.Admits(who.token.BoundCidrs, c.Address) {
		return nil, errBadToken()
	}
	who.acl, err = t.accessOf(who.token.Token)
	return who, err
}

// identityOf finds a token by its text; nil when there is none.
func (t *tx) identityOf(text redact.Bytes) (*identity, error) {
	if isBatchToken(text) {
		return t.openBatchToken(text)
	}
	if text.Len() == 0 || text.Len() > maxTokenBytes {
		return nil, nil
	}
	key, err := tokenKey(t.barrier, text)
	if err != nil {
		return nil, err
	}
	return t.identityAt(key)
}

// identityAt reads the token at key; nil when there is none.
func (t *tx) identityAt(key fsm.Key) (*identity, error) {
	token := &Token{Token: &storev1.Token{}, key: key}
	r, err := t.message(key, token.Token)
	if err != nil || r == nil {
		return nil, err
	}
	token.lease = r.Lease
	if token.Accessor, err = accessorOf(t.barrier, key); err != nil {
		return nil, err
	}
	if token.EntityID, err = entityOf(t.barrier, token.Alias); err != nil {
		return nil, err
	}
	if there, err := t.mounted(token); err != nil || !there {
		return nil, err
	}
	return &identity{key: key, lease: r.Lease, token: token}, nil
}

// mounted tells whether the auth mount that made a token is there, and those that
// made its parents. The leases of a mount that is disabled end by and by, a bounded
// number an entry; the tokens are worth nothing at once.
func (t *tx) mounted(token *Token) (bool, error) {
	table, err := t.mounts()
	if err != nil {
		return false, err
	}
	made := token.Token
	for next := token.lease; ; {
		if made.Mount != "" && table.byID[made.Mount] == nil {
			return false, nil
		}
		if made.Orphan {
			return true, nil
		}
		l, _, err := t.view.Lease(next)
		if err != nil || l == nil || l.Owner == nil {
			return err == nil, err
		}
		// No guard: what a token says of its mount never changes.
		r, err := t.view.Record(l.Owner)
		if err != nil || r == nil { // a parent that lets go of its children is a record no more
			return err == nil, err
		}
		value, err := t.openSealed(seal.TableRecord, l.Owner, 0, r.Value)
		if err != nil {
			return false, err
		}
		next, made = l.Owner, &storev1.Token{}
		if err := proto.Unmarshal(value, made); err != nil {
			return false, fmt.Errorf("reading a stored token: %w", err)
		}
	}
}

var rootAccess = policy.Compile(policy.Root())

// accessOf compiles what a token may do.
func (t *tx) accessOf(token *storev1.Token) (*policy.ACL, error) {
	if token.Root {
		return rootAccess, nil
	}
	return t.acl(token.Policies, token)
}

func errBadToken() *Error {
	return refuse(conclavev1.Reason_REASON_UNAUTHENTICATED, "the token is not valid", "it may be mistyped, revoked or expired, or belong to another cluster")
}

// use counts one use of a token that has a limit; the last one ends it. The
// record is guarded, so no use is counted twice or lost, on whichever nodes
// requests run at once. It stands before what the request itself does, which may be
// to end the token.
func (t *tx) use(who *identity) error {
	left := who.token.UsesLeft
	if left == 1 {
		t.stage(fsm.Operation{Kind: fsm.OpRevokeLease, Key: who.lease})
		return nil
	}
	token := cloneMessage(who.token.Token)
	token.UsesLeft = left - 1
	if err := t.putMessage(who.key, token, who.lease); err != nil {
		return err
	}
	ops := t.batch.Operations
	counted := ops[len(ops)-1]
	copy(ops[1:], ops)
	ops[0] = counted
	return nil
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

// MayAny tells whether the caller may do anything below the path of a mount.
func (t *tx) MayAny(path string) bool { return t.who != nil && t.who.acl.MayAny(path) }

// MaySudo tells whether the caller has the capability sudo on a path.
func (t *tx) MaySudo(path string) bool {
	return t.who != nil && t.who.acl.Decide(policy.Request{Path: path, Capability: policy.CapabilityUpdate, Sudo: true, Reason: t.caller.Reason}).Allowed
}

// An entity is somebody, under whatever names auth methods know them. There is no
// register of entities: an alias has one entity, whose id follows from it by a
// keyed hash, so every login under it finds the same.

// entityOf is the id of who is known by an alias; nobody is by none.
func entityOf(b *seal.Barrier, a *storev1.Alias) (string, error) {
	if a == nil {
		return "", nil
	}
	return aliasHash(b, "entity", a)
}

func aliasHash(b *seal.Barrier, kind string, a *storev1.Alias) (string, error) {
	hash, err := b.ID(kind, []byte(a.MountAccessor+"\x00"+a.Name))
	if err != nil {
		return "", err
	}
	hash[6], hash[8] = hash[6]&0x0f|0x80, hash[8]&0x3f|0x80 // RFC 9562, version 8: made in our own way
	text := make([]byte, 0, 36)                             // by hand: with each request of somebody who is known
	for i, part := range [][]byte{hash[:4], hash[4:6], hash[6:8], hash[8:10], hash[10:16]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return string(text), nil
}

// aliasMetadata is what the login under the token's alias said of who it was.
func aliasMetadata(token *storev1.Token) map[string]string {
	if token.Alias.GetInherited() {
		return token.Alias.Metadata
	}
	return token.Metadata
}

// identityValue looks up what the templates of policies name, of the bearer of
// token. Entities have no metadata of their own, and there are no groups: rules
// that name them say nothing.
func identityValue(b *seal.Barrier, token *storev1.Token) func(name string) (string, bool) {
	return func(name string) (string, bool) {
		entity, err := entityOf(b, token.GetAlias())
		if err != nil || entity == "" {
			return "", false
		}
		switch name {
		case "identity.entity.id":
			return entity, true
		case "identity.entity.name":
			return "entity_" + entity[:8], true
		}
		field, ok := strings.CutPrefix(name, "identity.entity.aliases."+token.Alias.MountAccessor+".")
		if !ok {
			return "", false
		}
		switch field {
		case "name":
			return token.Alias.Name, true
		case "id":
			id, err := aliasHash(b, "alias", token.Alias)
			return id, err == nil
		}
		key, ok := strings.CutPrefix(field, "metadata.")
		if !ok {
			return "", false
		}
		value, ok := aliasMetadata(token)[key]
		return value, ok
	}
}
