package core

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	storev1 "github.com/conclave-secrets/conclave/proto/conclave/store/v1"
)

// mountTableKey is the record of all mounts: few, and they change together.
var mountTableKey = fsm.Key{byte(spaceMount), 1}

// SystemTTL is what a token or lease lives for when nothing says otherwise, and
// at most: 32 days.
const SystemTTL = 768 * time.Hour

// maxMounts bounds the table, which is one record.
const maxMounts = 4096

// mountTable is the mount table at one revision, compiled.
type mountTable struct {
	revision fsm.Revision
	rows     *storev1.MountTable
	byPath   []*mount // longest path first
	byID     map[string]*mount
}

// mount is one mount, ready to answer.
type mount struct {
	engine.Mount
	row    *storev1.Mount
	routes *engine.Routes // nil: this binary does not know the type
}

// mounts returns the mount table, and guards it.
func (t *tx) mounts() (*mountTable, error) {
	r, err := t.row(mountTableKey)
	if err != nil {
		return nil, err
	}
	var revision fsm.Revision
	if r != nil {
		revision = r.Revision
	}
	if table := t.cache.mounts.Load(); table != nil && table.revision == revision {
		return table, nil
	}
	rows := &storev1.MountTable{}
	if _, err := t.message(mountTableKey, rows); err != nil { // it stays empty where there is none
		return nil, err
	}
	table, err := t.cache.compileMounts(revision, rows)
	if err == nil {
		t.cache.mounts.Store(table)
	}
	return table, err
}

func (d *directory) compileMounts(revision fsm.Revision, rows *storev1.MountTable) (*mountTable, error) {
	table := &mountTable{revision: revision, rows: rows, byID: map[string]*mount{}}
	for _, row := range rows.Mounts {
		m := &mount{row: row, Mount: engine.Mount{ID: row.Id, Path: row.Path, Accessor: row.Accessor, Type: row.Type, Options: row.Options,
			DefaultTTL: cmp.Or(row.DefaultTtl.AsDuration(), SystemTTL), MaxTTL: cmp.Or(row.MaxTtl.AsDuration(), SystemTTL)}}
		// A type that only another release knows leaves the rest of the table alone.
		if backend := d.backend(row.Path, row.Type); backend != nil {
			routes, err := backend.Routes(row.Options)
			if err != nil {
				return nil, fmt.Errorf("mount of type %s: %w", row.Type, err)
			}
			m.routes = engine.CompileRoutes(routes)
		}
		table.byID[row.Id] = m
		if !row.Ending {
			table.byPath = append(table.byPath, m)
		}
	}
	slices.SortFunc(table.byPath, func(a, b *mount) int { return cmp.Compare(len(b.Path), len(a.Path)) })
	return table, nil
}

// backend returns what answers a mount of a type, nil if this binary has none.
func (d *directory) backend(path, kind string) engine.Backend {
	if strings.HasPrefix(path, authPrefix) {
		return d.catalog.Auth[kind]
	}
	return d.catalog.Engines[kind]
}

const authPrefix = "auth/"

// find returns the mount that has path, and what remains of the path in it.
func (m *mountTable) find(path string) (*mount, string) {
	for _, e := range m.byPath {
		if rest, ok := strings.CutPrefix(path, e.Path); ok {
			return e, rest
		}
		if path+"/" == e.Path { // a mount is found with its slash or without
			return e, ""
		}
	}
	return nil, ""
}

// Mounts lists the mounts, in the order of their paths. The rows are the
// caller's to look at and not to change.
func (t *tx) Mounts() ([]*storev1.Mount, error) {
	table, err := t.mounts()
	if err != nil {
		return nil, err
	}
	rows := slices.DeleteFunc(slices.Clone(table.rows.Mounts), (*storev1.Mount).GetEnding)
	slices.SortFunc(rows, func(a, b *storev1.Mount) int { return cmp.Compare(a.Path, b.Path) })
	return rows, nil
}

// errors of changes to the mount table.
var (
	// ErrPathInUse: another mount is at the path, above it or below it.
	ErrPathInUse = errors.New("path is already in use")
	// ErrUnknownType: nothing of that type can be mounted.
	ErrUnknownType = errors.New("unknown type")
	// ErrNoMount: nothing is mounted at the path.
	ErrNoMount = errors.New("no mount at the path")
)

// Enable stages a new mount. It fills in id, accessor and time. The conflicting
// path is returned with ErrPathInUse.
func (t *tx) Enable(row *storev1.Mount) (conflict string, err error) {
	table, err := t.mounts()
	if err != nil {
		return "", err
	}
	backend := t.cache.backend(row.Path, row.Type)
	if backend == nil {
		return "", ErrUnknownType
	}
	if _, err := backend.Routes(row.Options); err != nil {
		return "", err
	}
	if conflict := table.conflict(row.Path, ""); conflict != "" {
		return conflict, ErrPathInUse
	}
	if len(table.rows.Mounts) >= maxMounts {
		return "", &engine.InvalidError{Why: fmt.Sprintf("there are %d mounts already, which is the limit", maxMounts)}
	}
	if row.Id, err = auth.NewUUID(t.rand); err != nil {
		return "", err
	}
	if err := t.christen(row, t.Now()); err != nil {
		return "", err
	}
	return "", t.putMounts(&storev1.MountTable{Mounts: append(slices.Clone(table.rows.Mounts), row)})
}

// christen gives a new mount its accessor, and dates it.
func (t *tx) christen(row *storev1.Mount, now time.Time) error {
	id, err := auth.NewUUID(t.rand)
	if err != nil {
		return err
	}
	row.Accessor, row.CreatedAt = row.Type+"_"+id[:8], timestampOf(now)
	return nil
}

// conflict is the path of a mount, other than that at except, which a mount at
// path would lie above, below or at; "": there is none.
func (m *mountTable) conflict(path, except string) string {
	for _, row := range m.rows.Mounts {
		if !row.Ending && row.Path != except && (strings.HasPrefix(path, row.Path) || strings.HasPrefix(row.Path, path)) {
			return row.Path
		}
	}
	return ""
}

func (t *tx) putMounts(rows *storev1.MountTable) error { return t.putMessage(mountTableKey, rows, nil) }

// Change stages a mount with another row at its place; the id stays.
func (t *tx) Change(path string, change func(*storev1.Mount) error) error {
	table, err := t.mounts()
	if err != nil {
		return err
	}
	rows := cloneMessage(table.rows)
	for _, row := range rows.Mounts {
		if row.Path == path && !row.Ending {
			if err := change(row); err != nil {
				return err
			}
			if backend := t.cache.backend(row.Path, row.Type); backend != nil {
				if _, err := backend.Routes(row.Options); err != nil {
					return err // a table that does not compile would take all mounts with it
				}
			}
			return t.putMounts(rows)
		}
	}
	return ErrNoMount
}

// Move stages another path for a mount and returns its id. The conflicting path is
// returned with ErrPathInUse.
func (t *tx) Move(from, to string) (id, conflict string, err error) {
	table, err := t.mounts()
	if err != nil {
		return "", "", err
	}
	if conflict := table.conflict(to, from); conflict != "" {
		return "", conflict, ErrPathInUse
	}
	err = t.Change(from, func(row *storev1.Mount) error {
		row.Path, id = to, row.Id
		return nil
	})
	return id, "", err
}

// Disable stages the end of a mount: it is gone at once, with its tokens and
// leases. What lies in it is removed by this entry and those that follow, a bounded
// number of rows each; nothing leads to it any more. A mount with effects on outside
// systems stays, out of sight, until they are undone: what it holds is needed for that.
func (t *tx) Disable(path string) error {
	table, err := t.mounts()
	if err != nil {
		return err
	}
	m, rest := table.find(path)
	if m == nil || rest != "" || m.Path != path {
		return ErrNoMount
	}
	t.stage(fsm.Operation{Kind: fsm.OpRevokeGroup, Key: mountGroup(m.ID)})
	if _, acts := t.cache.backend(m.Path, m.Type).(engine.Effects); acts {
		return t.Change(path, func(row *storev1.Mount) error {
			row.Ending = true
			return nil
		})
	}
	return t.purge(table, m.ID)
}

// purge stages the removal of a mount with all that lies in it.
func (t *tx) purge(table *mountTable, id string) error {
	below, err := t.barrier.BlindPrefix(spaceSecret, []string{id})
	if err != nil {
		return err
	}
	t.stage(fsm.Operation{Kind: fsm.OpPurgePrefix, Key: below})
	rows := slices.DeleteFunc(slices.Clone(table.rows.Mounts), func(row *storev1.Mount) bool { return row.Id == id })
	return t.putMounts(&storev1.MountTable{Mounts: rows})
}

// purgeEnding stages the removal of a disabled mount that has nothing left to undo.
func (t *tx) purgeEnding() error {
	table, err := t.mounts()
	if err != nil {
		return err
	}
	for _, row := range table.rows.Mounts {
		if !row.Ending {
			continue
		}
		left, err := t.countLeases(row.Id, false)
		if err != nil {
			return err
		}
		if left == 0 {
			return t.purge(table, row.Id)
		}
	}
	return nil
}

// mountGroup is the group of the leases that a mount has made. Each such lease has
// the name in its row and in an index, so it is short: a hash, which here hides
// nothing and only has to be of one length.
func mountGroup(id string) fsm.Key {
	return append(fsm.Key{byte(spaceMount), 2}, mountDigest(id)...)
}
