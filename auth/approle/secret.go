package approle

import (
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
)

// secret is the record of a secret id.
type secret struct {
	Accessor    string            `json:"accessor"`
	Uses        int64             `json:"uses"` // left; 0: without limit
	TTL         engine.Duration   `json:"ttl"`  // 0: for ever
	Created     time.Time         `json:"created"`
	Updated     time.Time         `json:"updated"`
	Expires     time.Time         `json:"expires"` // zero: never
	Metadata    map[string]string `json:"metadata,omitempty"`
	Ranges      engine.Strings    `json:"ranges,omitempty"`
	TokenRanges engine.Strings    `json:"token_ranges,omitempty"`

	uid, hash string // of the role and of the id: where the record lies
}

// findSecret looks a secret id up; nil if there is none that is alive.
func findSecret(tx engine.Tx, uid, id string) (*secret, error) {
	hash, err := tx.Hash(id)
	if err != nil {
		return nil, err
	}
	return secretAt(tx, uid, hash)
}

func secretAt(tx engine.Tx, uid, hash string) (*secret, error) {
	s := &secret{uid: uid, hash: hash}
	found, err := engine.GetJSON(tx, under(secretsOf(uid), hash), s)
	// The record itself goes a little later than its time: the store counts from
	// the commit, and once more whenever a use is counted.
	if err != nil || !found || !s.Expires.IsZero() && !tx.Now().Before(s.Expires) {
		return nil, err
	}
	return s, nil
}

// put stages a record of the secret id that goes when its time is over.
func (s *secret) put(tx engine.Tx, p engine.Path, v any) error {
	value, err := engine.EncodeJSON(v)
	if err != nil {
		return err
	}
	if s.Expires.IsZero() {
		return tx.PutRecord(p, value)
	}
	return tx.PutExpiring(p, value, s.Expires.Sub(tx.Now()))
}

// use stages a use of the secret id; the last one ends it.
func (s *secret) use(tx engine.Tx) error {
	switch s.Uses {
	case 0:
		return nil
	case 1:
		return s.remove(tx)
	}
	s.Uses--
	s.Updated = tx.Now()
	return s.put(tx, under(secretsOf(s.uid), s.hash), s)
}

func (s *secret) remove(tx engine.Tx) error {
	if err := tx.DeleteRecord(under(secretsOf(s.uid), s.hash)); err != nil {
		return err
	}
	return tx.DeleteRecord(under(accessorsOf(s.uid), s.Accessor))
}

// byAccessor finds a secret id by its accessor; nil if there is none.
func byAccessor(tx engine.Tx, uid, accessor string) (*secret, error) {
	if p, err := engine.ParsePath(accessor, 0); err != nil || len(p) != 1 {
		return nil, nil // no accessor has such a form
	}
	var hash string
	found, err := engine.GetJSON(tx, under(accessorsOf(uid), accessor), &hash)
	if err != nil || !found {
		return nil, err
	}
	return secretAt(tx, uid, hash)
}

// secretFields is what a request may say about a new secret id.
type secretFields struct {
	Metadata    auth.Metadata    `json:"metadata" doc:"goes into the metadata of the tokens"`
	Ranges      engine.Strings   `json:"cidr_list" doc:"addresses that may log in with it"`
	TokenRanges engine.Strings   `json:"token_bound_cidrs" doc:"addresses that may use its tokens"`
	Uses        *engine.Int      `json:"num_uses" doc:"how often it may be used; the role's unless given"`
	TTL         *engine.Duration `json:"ttl" doc:"time to live; the role's unless given"`
}

// newSecret makes the record of a secret id of r, within the bounds that r sets.
func (f *secretFields) newSecret(c *engine.Call, r *role) (*secret, error) {
	s := &secret{Uses: r.SecretUses, TTL: r.SecretTTL, Created: c.Now(), Updated: c.Now(), Metadata: f.Metadata, uid: r.UID}
	if f.Uses != nil {
		s.Uses = int64(*f.Uses)
	}
	if f.TTL != nil {
		s.TTL = engine.Duration(time.Duration(*f.TTL).Truncate(time.Second))
	}
	invalid := func(why string) (*secret, error) { return nil, &engine.InvalidError{Why: why} }
	switch {
	case s.Uses < 0:
		return invalid("the field \"num_uses\" is negative")
	case r.SecretUses > 0 && (s.Uses == 0 || s.Uses > r.SecretUses):
		return invalid("num_uses cannot be higher than the role's secret_id_num_uses")
	case r.SecretTTL > 0 && (s.TTL == 0 || s.TTL > r.SecretTTL):
		return invalid("ttl cannot be longer than the role's secret_id_ttl")
	}
	if s.TTL > 0 {
		s.Expires = s.Created.Add(time.Duration(s.TTL))
	}
	if err := f.Metadata.Check(); err != nil {
		return nil, err
	}
	return s, f.bind(s, r)
}

// bind sets the ranges of a secret id, which must lie in those of its role.
func (f *secretFields) bind(s *secret, r *role) (err error) {
	if s.Ranges, err = auth.ParseRanges("cidr_list", f.Ranges); err != nil {
		return err
	}
	if s.TokenRanges, err = auth.ParseRanges("token_bound_cidrs", f.TokenRanges); err != nil {
		return err
	}
	if !auth.Within(s.Ranges, r.SecretRanges) {
		return &engine.InvalidError{Why: "cidr_list is not within the role's secret_id_bound_cidrs"}
	}
	if !auth.Within(s.TokenRanges, r.BoundCIDRs) {
		return &engine.InvalidError{Why: "token_bound_cidrs is not within the role's token_bound_cidrs"}
	}
	return nil
}

// stage stages the record and its accessor under the secret id's hash.
func (s *secret) stage(c *engine.Call, id string) (err error) {
	if s.hash, err = c.Hash(id); err != nil {
		return err
	}
	at := under(secretsOf(s.uid), s.hash)
	taken, err := c.Record(at)
	if err != nil {
		return err
	}
	if taken != nil {
		return &engine.InvalidError{Why: "the secret id exists already"}
	}
	if s.Accessor, err = auth.NewUUID(c.Rand); err != nil {
		return err
	}
	if err := s.put(c, at, s); err != nil {
		return err
	}
	return s.put(c, under(accessorsOf(s.uid), s.Accessor), s.hash)
}
