package server

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// ownerFile lies in the directories of state and log and says which node of
// which cluster they belong to. Directories that were put together from two
// backups would otherwise pass for one node, which might then lead with a state
// that nobody agreed on.
//
// It is text, for people to read:
//
//	CLUSTER " " NODE "\n"
//	"crc32c " the Castagnoli CRC of the first line, its end included, in 8 digits "\n"
//
// The sum tells rot from a directory that really is another's. It guards
// against no forger, who could write any file here. The first form had no second
// line; it is read, and replaced by this one.
const ownerFile = "owner"

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	// firstOwner is the form without a sum, exactly: what has lost its sum to
	// rot must not pass for it.
	firstOwner = regexp.MustCompile(`^[0-9a-f]{32} n[0-9a-f]{12}\n$`)
)

// errOwnerRotten: the file is in neither form, so nobody wrote it as it is.
var errOwnerRotten = errors.New("the owner file is damaged")

func ownerText(owner string) []byte {
	line := owner + "\n"
	return fmt.Appendf(nil, "%scrc32c %08x\n", line, crc32.Checksum([]byte(line), castagnoli))
}

// parseOwner returns what the file says; summed is false for the first form.
func parseOwner(raw []byte) (owner string, summed bool, err error) {
	if firstOwner.Match(raw) {
		return strings.TrimSuffix(string(raw), "\n"), false, nil
	}
	owner, _, found := strings.Cut(string(raw), "\n")
	if !found || string(ownerText(owner)) != string(raw) {
		return "", false, errOwnerRotten
	}
	return owner, true, nil
}

// claim refuses directories of another node, and marks new ones.
func (m *member) claim() error {
	for _, name := range []string{stateDir, raftDir} {
		dir := filepath.Join(m.cfg.DataDir, name)
		if err := vfs.MkdirAllSync(vfs.Default, dir); err != nil {
			return fmt.Errorf("creating %s: %w", dir, err)
		}
		if err := claimDir(m.cfg.DataDir, name, m.id.Cluster+" "+m.id.NodeID); err != nil {
			return err
		}
	}
	return nil
}

// claimDir claims the directory with that name for the owner.
func claimDir(dataDir, name, owner string) error {
	path := filepath.Join(dataDir, name, ownerFile)
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return writeOwner(path, owner)
	case err != nil:
		return fmt.Errorf("reading %s: %w", path, err)
	}
	found, summed, err := parseOwner(raw)
	if err != nil {
		return &DataDirError{dataDir, fmt.Sprintf("has a damaged file %s/%s", name, ownerFile),
			"look after this disk; if nothing in the directory was moved or restored by hand, remove that one file, and it is written anew at the next start"}
	}
	if found != owner {
		return &DataDirError{dataDir, fmt.Sprintf("is put together from two: %s belongs to another cluster or node than %s", name, identityFile),
			"restore all of it from one backup, or remove this node from the cluster, empty the directory and join again"}
	}
	if !summed {
		return writeOwner(path, owner)
	}
	return nil
}

// writeOwner makes the file durable.
func writeOwner(path, owner string) error {
	if err := vfs.AtomicWrite(vfs.Default, path, ownerText(owner)); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
