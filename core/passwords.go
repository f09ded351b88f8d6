package core

import (
	"slices"

	"github.com/conclave-secrets/conclave/fsm"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
)

// Password policies are kept as they were written; package password reads them.

func (t *tx) passwordPolicyKey(name string) (fsm.Key, error) {
	return t.barrier.Blind(spacePassword, []string{name})
}

// PasswordPolicyText returns a password policy as it was written.
func (t *tx) PasswordPolicyText(name string) (text string, ok bool, err error) {
	key, err := t.passwordPolicyKey(name)
	if err != nil {
		return "", false, err
	}
	p := &storev1.Policy{}
	r, err := t.message(key, p)
	return p.Text, r != nil, err
}

// PutPasswordPolicy stages a password policy, which must parse.
func (t *tx) PutPasswordPolicy(name, text string) error {
	key, err := t.passwordPolicyKey(name)
	if err != nil {
		return err
	}
	return t.putMessage(key, &storev1.Policy{Name: name, Text: text}, nil)
}

// DeletePasswordPolicy stages the removal of a password policy.
func (t *tx) DeletePasswordPolicy(name string) error {
	key, err := t.passwordPolicyKey(name)
	if err == nil {
		t.stage(fsm.Operation{Kind: fsm.OpDeleteRecord, Key: key})
	}
	return err
}

// PasswordPolicies lists the names of the password policies, sorted.
func (t *tx) PasswordPolicies() ([]string, error) { return t.namesIn(spacePassword) }

// namesIn lists the names, of one segment each, of the records in a space, sorted.
func (t *tx) namesIn(space fsm.Space) ([]string, error) {
	keys, err := t.view.Keys(fsm.Records, fsm.Key{byte(space)})
	if err != nil {
		return nil, err
	}
	var names []string
	for keys.Next() {
		segments, err := t.barrier.Unblind(space, keys.Key())
		if err != nil {
			return nil, firstError(err, keys.Close())
		}
		names = append(names, segments[0])
	}
	slices.Sort(names)
	return names, keys.Close()
}
