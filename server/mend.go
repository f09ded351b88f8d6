package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/storage/raftlog"
)

// mendLog repairs what is rotten in the part of the log that nothing else on
// this disk holds, before Raft reads it. What no other node can supply may never
// have been committed; the node does without it, and abstains from elections
// until it has as much again (L11). known is the index up to which state and
// snapshots hold everything.
func (m *member) mendLog(ctx context.Context, known uint64, snapshots raft.SnapshotStore) error {
	err := m.log.Mend(ctx, known+1)
	var rot *raftlog.RotError
	if !errors.As(err, &rot) || errors.Is(err, raftlog.ErrFailed) {
		return err
	}
	m.logger.Warn("the end of the log is damaged and no other node has it as committed; giving it up", "from", rot.Index, "error", err)
	err = cluster.GiveUpTail(m.id.NodeID, rot.Index, m.log, m.log, snapshots)
	if errors.Is(err, cluster.ErrSoleVoter) {
		return &DataDirError{m.cfg.DataDir, fmt.Sprintf("has a damaged log: %v, and this node is the only voter", rot),
			"nobody else can have what is lost: restore the directory from a backup"}
	}
	return err
}
