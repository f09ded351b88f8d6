package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// ownerFile lies in the directories of state and log and says, in one line,
// which node of which cluster they belong to. Directories that were put together
// from two backups would otherwise pass for one node, which might then lead with
// a state that nobody agreed on.
const ownerFile = "owner"

// claim refuses directories of another node, and marks new ones.
func (m *member) claim() error {
	mine := m.id.Cluster + " " + m.id.NodeID
	for _, name := range []string{stateDir, raftDir} {
		dir := filepath.Join(m.cfg.DataDir, name)
		if err := vfs.MkdirAllSync(vfs.Default, dir); err != nil {
			return fmt.Errorf("creating %s: %w", dir, err)
		}
		path := filepath.Join(dir, ownerFile)
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = vfs.AtomicWrite(vfs.Default, path, []byte(mine+"\n"))
			raw = []byte(mine)
		}
		if err != nil {
			return fmt.Errorf("claiming %s: %w", dir, err)
		}
		if owner := strings.TrimSpace(string(raw)); owner != mine {
			return &DataDirError{m.cfg.DataDir, fmt.Sprintf("is put together from two: %s belongs to another cluster or node than identity.json", name),
				"restore all of it from one backup, or remove this node from the cluster, empty the directory and join again"}
		}
	}
	return nil
}
