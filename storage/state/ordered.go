package state

import (
	"strings"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// orderedFS makes a new file's name durable before a marker points to it. Pebble
// writes and syncs a manifest, then creates the marker file that names it, and
// only then syncs the directory, once for both names. A file system that loses
// the first and keeps the second leaves a map that does not open. Journals keep
// the order; nobody promises it, and the sync is cheap: markers move when a map is
// opened and when its manifest has grown large.
type orderedFS struct{ vfs.FS }

const markerPrefix = "marker."

// Create implements vfs.FS.
func (f orderedFS) Create(name string, category pebblevfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(f.PathBase(name), markerPrefix) {
		if err := vfs.SyncDir(f.FS, f.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return f.FS.Create(name, category)
}
