package kv

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// The rules about one secret and its versions, for the typed methods and the
// routes alike.

// fields are the data of one version, by name.
type fields = map[string]*conclavev1.Field

// appended is what is known of a version before it is committed.
type appended struct {
	number   uint64
	ttl      time.Duration // 0: it does not end by itself
	settings *storev1.SecretSettings
}

// append adds a version with the value that make returns, if check-and-set
// allows it. make is given the secret's head, nil when it has none.
func (e *Engine) append(tx engine.Tx, path string, cas *uint64, ttl time.Duration, make func(engine.Path, *engine.Head) ([]byte, error)) (*appended, error) {
	p, err := e.path(path)
	if err != nil {
		return nil, err
	}
	s, err := settings(tx, p)
	if err != nil {
		return nil, err
	}
	c, err := readConfig(tx)
	if err != nil {
		return nil, err
	}
	head, err := tx.Head(p)
	if err != nil {
		return nil, err
	}
	if err := checkAndSet(cas, head, s.CasRequired || c.CASRequired); err != nil {
		return nil, err
	}
	value, err := make(p, head)
	if err != nil {
		return nil, err
	}
	if err := enforceLimit(tx, p, head, c); err != nil {
		return nil, err
	}
	out := &appended{ttl: expiry(ttl, s, c), settings: s}
	out.number, err = tx.AppendVersion(p, value, out.ttl)
	return out, err
}

// checkAndSet refuses a write that expects another version to be current.
func checkAndSet(cas *uint64, head *engine.Head, required bool) error {
	var current uint64
	if head != nil {
		current = head.Current
	}
	switch {
	case cas == nil && required:
		return &engine.CheckAndSetError{Required: true, Current: current}
	case cas != nil && *cas != current:
		return &engine.CheckAndSetError{Want: *cas, Current: current}
	}
	return nil
}

// existing returns the head of a secret that has at least one version.
func existing(tx engine.Tx, p engine.Path) (*engine.Head, error) {
	head, err := tx.Head(p)
	if err != nil {
		return nil, err
	}
	if head == nil || head.Current == 0 {
		return nil, &engine.NotFoundError{What: "secret"}
	}
	return head, nil
}

// known returns version n whatever its state.
func known(tx engine.Tx, p engine.Path, n uint64) (*engine.Version, error) {
	v, err := tx.Version(p, n)
	if err == nil && v == nil {
		err = &engine.NotFoundError{What: fmt.Sprintf("version %d", n)}
	}
	return v, err
}

// version returns version n, 0 for the current one, whatever its state, and its number.
func version(tx engine.Tx, p engine.Path, n uint64) (uint64, *engine.Version, error) {
	head, err := existing(tx, p)
	if err != nil {
		return 0, nil, err
	}
	if n == 0 {
		n = head.Current
	}
	v, err := known(tx, p, n)
	return n, v, err
}

// readable returns version n, 0 for the current one, if its data can be read.
func readable(tx engine.Tx, p engine.Path, n uint64) (uint64, *engine.Version, error) {
	n, v, err := version(tx, p, n)
	if err != nil {
		return 0, nil, err
	}
	if v.Destroyed || v.Deleted {
		return 0, nil, &engine.GoneError{Version: n, Destroyed: v.Destroyed}
	}
	return n, v, nil
}

// open decodes the data of a version that can be read.
func open(v *engine.Version) (fields, error) {
	var data storev1.SecretData
	if err := proto.Unmarshal(v.Value, &data); err != nil {
		return nil, fmt.Errorf("reading a secret: %w", err)
	}
	return data.Data, nil
}

// leniency is what becomes of versions that a change cannot be done to.
type leniency bool

const (
	refuseUnfit leniency = false // the whole request is refused
	skipUnfit   leniency = true  // they are left out: what was asked for is so already
)

// change stages a change of versions; no numbers mean the current one.
func (e *Engine) change(tx engine.Tx, path string, change engine.Change, numbers []uint64, unfit leniency) error {
	p, err := e.path(path)
	if err != nil {
		return err
	}
	if len(numbers) > maxNumbers {
		return &engine.TooLargeError{What: "list of versions", Bytes: len(numbers), Limit: maxNumbers}
	}
	head, err := existing(tx, p)
	if err != nil {
		return unfit.or(err)
	}
	if len(numbers) == 0 {
		numbers = []uint64{head.Current}
	}
	var fit []uint64
	for _, n := range numbers {
		switch v, err := known(tx, p, n); {
		case err != nil:
			if err := unfit.or(err); err != nil {
				return err
			}
		case change == engine.Undelete && v.Destroyed:
			if err := unfit.or(&engine.GoneError{Version: n, Destroyed: true}); err != nil {
				return err
			}
		default:
			fit = append(fit, n)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return tx.ChangeVersions(p, change, fit)
}

// or returns nil for a refusal that l forgives. An error of the transaction is none.
func (l leniency) or(err error) error {
	var (
		missing *engine.NotFoundError
		gone    *engine.GoneError
	)
	if l == skipUnfit && (errors.As(err, &missing) || errors.As(err, &gone)) {
		return nil
	}
	return err
}

// purge stages the end of a secret with all that belongs to it.
func purge(tx engine.Tx, p engine.Path) error {
	head, err := tx.Head(p)
	if err != nil {
		return err
	}
	if head == nil {
		return &engine.NotFoundError{What: "secret"}
	}
	c, err := readConfig(tx)
	if err != nil {
		return err
	}
	if err := tx.PurgeSecret(p); err != nil {
		return err
	}
	if err := forgetLimit(tx, p, c); err != nil {
		return err
	}
	return tx.DeleteRecord(p)
}

// exists tells whether a secret is there, be it without a version.
func (e *Engine) exists(tx engine.Tx, path string) (bool, error) {
	p, err := e.path(path)
	if err != nil {
		return false, err
	}
	head, err := tx.Head(p)
	return head != nil, err
}

// description is a secret as a whole, without its data.
type description struct {
	head     *engine.Head
	settings *storev1.SecretSettings
	own      uint64 // its own limit of versions; 0: none
	versions []numbered
}

type numbered struct {
	number uint64
	*engine.Version
}

// describe looks at a secret and all its versions.
func describe(tx engine.Tx, p engine.Path) (*description, error) {
	head, err := tx.Head(p)
	if err != nil {
		return nil, err
	}
	if head == nil {
		return nil, &engine.NotFoundError{What: "secret"}
	}
	d := &description{head: head}
	if d.settings, err = settings(tx, p); err != nil {
		return nil, err
	}
	c, err := readConfig(tx)
	if err != nil {
		return nil, err
	}
	if d.own, err = ownLimit(tx, p, head, c); err != nil {
		return nil, err
	}
	for n := head.Oldest; n != 0 && n <= head.Current; n++ {
		v, err := tx.Version(p, n)
		if err != nil {
			return nil, err
		}
		if v != nil {
			d.versions = append(d.versions, numbered{n, v})
		}
	}
	return d, nil
}

// list lists the names directly in a directory. At the root there may be none.
func (e *Engine) list(tx engine.Tx, path, after string, limit int) (names []string, more bool, err error) {
	dir, err := engine.ParseDirectory(path, e.MaxPathBytes)
	if err != nil {
		return nil, false, err
	}
	names, more, err = tx.Children(dir, after, limit)
	if err == nil && len(names) == 0 && after == "" && len(dir) > 0 {
		err = &engine.NotFoundError{What: "directory"}
	}
	return names, more, err
}
