package core

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/policy"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
)

// directory is what a node compiled from the ledger and uses on every request:
// the mount table and the access lists. Each is immutable, belongs to a revision,
// and is swapped whole when a transaction sees another. It lives as long as the
// keys: a sealed node has forgotten it.
type directory struct {
	catalog Catalog
	mounts  atomic.Pointer[mountTable]
	access  atomic.Pointer[accessTable]
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
	lists map[string]*policy.ACL // by the sorted names of the policies
}

// maxAccessLists bounds the table. Tokens share lists: there are as many as
// there are combinations of policies at work.
const maxAccessLists = 4096

var policyTableGuard = fsm.Key{byte(spacePolicy)}

// acl compiles the policies with the given names, those that exist. The batch is
// guarded: any change of any policy makes it conflict.
func (t *tx) acl(names []string) (*policy.ACL, error) {
	revision, err := t.view.SpaceRevision(spacePolicy)
	if err != nil {
		return nil, err
	}
	t.guard(fsm.Guard{Kind: fsm.GuardSpaceUnchanged, Key: policyTableGuard, Revision: revision})
	table := t.cache.access.Load()
	if table == nil || table.revision != revision {
		table = &accessTable{revision: revision, lists: map[string]*policy.ACL{}}
		// An older view may put an older table in: the next request with a newer
		// one replaces it again. Each is right for its revision.
		t.cache.access.Store(table)
	}
	names = slices.Clone(names)
	slices.Sort(names)
	key := strings.Join(names, "\x00")
	table.mu.RLock()
	acl := table.lists[key]
	table.mu.RUnlock()
	if acl != nil {
		return acl, nil
	}
	var policies []*policy.Policy
	for _, name := range names {
		p, err := t.policy(name)
		if err != nil {
			return nil, err
		}
		if p != nil {
			policies = append(policies, p)
		}
	}
	acl = policy.Compile(policies...)
	table.mu.Lock()
	defer table.mu.Unlock()
	if len(table.lists) >= maxAccessLists {
		clear(table.lists)
	}
	table.lists[key] = acl
	return acl, nil
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

// PolicyText returns the policy as it was written.
func (t *tx) PolicyText(name string) (text string, ok bool, err error) {
	key, err := t.policyKey(name)
	if err != nil {
		return "", false, err
	}
	p := &storev1.Policy{}
	r, err := t.message(key, p)
	return p.Text, r != nil, err
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
func (t *tx) Policies() ([]string, error) {
	keys, err := t.view.Keys(fsm.Records, fsm.Key{byte(spacePolicy)})
	if err != nil {
		return nil, err
	}
	var names []string
	for keys.Next() {
		segments, err := t.barrier.Unblind(spacePolicy, keys.Key())
		if err != nil {
			return nil, firstError(err, keys.Close())
		}
		names = append(names, segments[0])
	}
	slices.Sort(names)
	return names, keys.Close()
}

// MayAny tells whether the caller may do anything below the path of a mount.
func (t *tx) MayAny(path string) bool { return t.who != nil && t.who.acl.MayAny(path) }
