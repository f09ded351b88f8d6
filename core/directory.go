package core

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/policy"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// directory is what a node compiled from the ledger and uses on every request:
// the mount table and the access lists. Each is immutable, belongs to a revision,
// and is swapped whole when a transaction sees another. It lives as long as the
// keys: a sealed node has forgotten it.
type directory struct {
	catalog Catalog
	mounts  atomic.Pointer[mountTable]
	access  atomic.Pointer[accessTable]
	keyring atomic.Uint64 // revision of the seal's configuration that the barrier was last told
}

// Catalog is what this binary can mount.
type Catalog struct {
	Engines map[string]engine.Backend // by type
	Auth    map[string]engine.Backend
}

// accessTable holds the compiled access lists of the policies at one revision.
type accessTable struct {
	revision fsm.Revision

	mu    sync.RWMutex
	lists map[string]accessList // by the sorted names of the policies, and by whose they are
}

// accessList is a compiled list, or policies that say different things of
// different people.
type accessList struct {
	acl       *policy.ACL
	templated []*policy.Policy // set where acl is nil
}

func (a *accessTable) find(key string) (accessList, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	list, ok := a.lists[key]
	return list, ok
}

func (a *accessTable) keep(key string, list accessList) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.lists) >= maxAccessLists {
		clear(a.lists)
	}
	a.lists[key] = list
}

// maxAccessLists bounds the table. Tokens share lists: there are as many as
// there are combinations of policies at work.
const maxAccessLists = 4096

var policyTableGuard = fsm.Key{byte(spacePolicy)}

// acl compiles the policies with the given names, those that exist, for the bearer
// of a token. The batch is guarded: any change of any policy makes it conflict.
func (t *tx) acl(names []string, bearer *storev1.Token) (*policy.ACL, error) {
	revision, err := t.guardPolicies()
	if err != nil {
		return nil, err
	}
	table := t.cache.access.Load()
	if table == nil || table.revision != revision {
		table = &accessTable{revision: revision, lists: map[string]accessList{}}
		// An older view may put an older table in: the next request with a newer
		// one replaces it again. Each is right for its revision.
		t.cache.access.Store(table)
	}
	names = slices.Clone(names)
	slices.Sort(names)
	key := joined(names)
	list, ok := table.find(key)
	if !ok {
		if list, err = t.accessList(names); err != nil {
			return nil, err
		}
		table.keep(key, list)
	}
	if list.acl != nil {
		return list.acl, nil
	}
	whose, err := proto.MarshalOptions{Deterministic: true}.Marshal(&storev1.Token{Alias: bearer.GetAlias(), Metadata: aliasMetadata(bearer)})
	if err != nil {
		return nil, fmt.Errorf("naming an access list: %w", err)
	}
	key += "\x00" + string(whose) // no length starts with a NUL
	own, ok := table.find(key)
	if !ok {
		own.acl = t.expand(list.templated, bearer)
		table.keep(key, own)
	}
	return own.acl, nil
}

// joined is one text for a list of names that no other list has, whatever the names.
func joined(names []string) string {
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "%d:%s", len(name), name)
	}
	return b.String()
}

// guardPolicies guards all policies as they are, and returns their revision.
func (t *tx) guardPolicies() (fsm.Revision, error) {
	revision, err := t.view.SpaceRevision(spacePolicy)
	if err == nil {
		t.guard(fsm.Guard{Kind: fsm.GuardSpaceUnchanged, Key: policyTableGuard, Revision: revision})
	}
	return revision, err
}

// accessList reads and parses the policies with the given names.
func (t *tx) accessList(names []string) (list accessList, err error) {
	var policies []*policy.Policy
	templated := false
	for _, name := range names {
		p, err := t.policy(name)
		if err != nil {
			return list, err
		}
		if p != nil {
			policies = append(policies, p)
			templated = templated || p.Templated()
		}
	}
	if templated {
		list.templated = policies
	} else {
		list.acl = policy.Compile(policies...)
	}
	return list, nil
}

// expand compiles policies with templates for the bearer of a token.
func (t *tx) expand(policies []*policy.Policy, bearer *storev1.Token) *policy.ACL {
	filled := make([]*policy.Policy, len(policies))
	for i, p := range policies {
		filled[i] = p.Expand(identityValue(t.barrier, bearer))
	}
	return policy.Compile(filled...)
}

// policy reads and parses one policy; nil when there is none of that name.
func (t *tx) policy(name string) (*policy.Policy, error) {
	text, ok, err := t.PolicyText(name)
	if err != nil || !ok {
		return nil, err
	}
	return policy.Parse(name, text)
}

func (t *tx) policyKey(name string) (fsm.Key, error) {
	return t.barrier.Blind(spacePolicy, []string{name})
}

// PolicyText returns the policy as it was written. One guard covers all policies: a
// token may have more of them than a batch may have guards.
func (t *tx) PolicyText(name string) (text string, ok bool, err error) {
	key, err := t.policyKey(name)
	if err != nil {
		return "", false, err
	}
	if _, err := t.guardPolicies(); err != nil {
		return "", false, err
	}
	r, err := t.view.Record(key)
	if err != nil || r == nil {
		return "", false, err
	}
	value, err := t.openSealed(seal.TableRecord, key, 0, r.Value)
	if err != nil {
		return "", false, err
	}
	p := &storev1.Policy{}
	if err := proto.Unmarshal(value, p); err != nil {
		return "", false, fmt.Errorf("reading a stored policy: %w", err)
	}
	return p.Text, true, nil
}

// PutPolicy stages a policy, which must parse.
func (t *tx) PutPolicy(name, text string) error {
	key, err := t.policyKey(name)
	if err != nil {
		return err
	}
	return t.putMessage(key, &storev1.Policy{Name: name, Text: text}, nil)
}

// DeletePolicy stages the removal of a policy.
func (t *tx) DeletePolicy(name string) error {
	key, err := t.policyKey(name)
	if err == nil {
		t.stage(fsm.Operation{Kind: fsm.OpDeleteRecord, Key: key})
	}
	return err
}

// Policies lists the names of the policies, sorted.
func (t *tx) Policies() ([]string, error) { return t.namesIn(spacePolicy) }
