package approle

import (
	"strings"

	"github.com/conclave-secrets/conclave/engine"
)

// maxSwept bounds the records that one request removes: they are one batch, which
// the state machine takes up to 256 operations of.
const maxSwept = 200

// tidy removes what roles that are gone have left behind. Secret ids whose time
// or uses are over have gone by themselves.
func tidy(c *engine.Call, _ *struct{}) (*struct{}, error) {
	alive, err := liveUIDs(c)
	if err != nil {
		return nil, err
	}
	s := sweep{tx: c, left: maxSwept}
	for _, dir := range []string{"secret", "accessor"} {
		err := each(c, engine.Path{dir}, func(name string) (bool, error) {
			uid := strings.TrimSuffix(name, "/")
			if alive[uid] {
				return true, nil
			}
			return s.left > 0, s.removeIn(engine.Path{dir, uid})
		})
		if err != nil {
			return nil, err
		}
	}
	if s.left == 0 {
		c.Warn("There may be more to remove; write to tidy/secret-id again.")
	}
	return nil, nil
}

// liveUIDs lists the roles that are there. It guards nothing and need not: a role
// made meanwhile has no secret id on this view, and no UID is drawn twice.
func liveUIDs(tx engine.Tx) (map[string]bool, error) {
	alive := map[string]bool{}
	err := each(tx, engine.Path{"live"}, func(uid string) (bool, error) {
		alive[uid] = true
		return true, nil
	})
	return alive, err
}

// each calls f with every name in a directory until it returns false or an error.
func each(tx engine.Tx, dir engine.Path, f func(name string) (bool, error)) error {
	for after := ""; ; {
		names, more, err := tx.Records(dir, after, 1<<16) // each page looks at all of them
		if err != nil {
			return err
		}
		for _, name := range names {
			if goOn, err := f(name); err != nil || !goOn {
				return err
			}
		}
		if !more || len(names) == 0 {
			return nil
		}
		after = names[len(names)-1]
	}
}

// sweep removes records, so many at most.
type sweep struct {
	tx   engine.Tx
	left int
}

// remove removes the secret ids of a role.
func (s *sweep) remove(uid string) error {
	for _, dir := range []engine.Path{secretsOf(uid), accessorsOf(uid)} {
		if err := s.removeIn(dir); err != nil {
			return err
		}
	}
	return nil
}

func (s *sweep) removeIn(dir engine.Path) error {
	return each(s.tx, dir, func(name string) (bool, error) {
		if s.left == 0 {
			return false, nil
		}
		s.left--
		return true, s.tx.DeleteRecord(under(dir, name))
	})
}
