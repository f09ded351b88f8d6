package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/seal"
)

// An AuditConfig says where this node records who did what.
type AuditConfig struct {
	// Disable keeps no record at all.
	Disable bool
	// File is where. Empty: audit/audit.log in the data directory.
	File string
	// MaxSizeMiB is how large a file grows before the next begins. Zero: 100.
	MaxSizeMiB int
	// Keep is how many old files stay. Zero: all.
	Keep int
}

// openAudit opens the audit log of an unsealed node.
func (m *member) openAudit(b *seal.Barrier) (core.Recorder, error) {
	c := m.cfg.Audit
	if c.Disable {
		m.logger.Warn("no audit log is kept: who reads which secret is not recorded")
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(c.File), 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the audit log: %w", err)
	}
	logger := m.logger.With("part", "audit")
	log, err := audit.Open(audit.Options{
		Path: c.File, Node: m.id.NodeID, Cluster: m.id.Cluster, Hash: core.AuditHasher(b),
		MaxSize: int64(c.MaxSizeMiB) << 20, Keep: c.Keep,
		Notify: func(e audit.Event) {
			if e.Err != nil {
				logger.Error(string(e.Kind), "sink", e.Sink, "detail", e.Detail, "error", e.Err)
				return
			}
			logger.Warn(string(e.Kind), "sink", e.Sink, "detail", e.Detail)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	return log, nil
}

// ReopenAudit lets go of an audit file that somebody has renamed, and goes on in a
// new one.
func (n *Node) ReopenAudit(ctx context.Context) error {
	_, m := n.current()
	if m == nil {
		return nil
	}
	if log, ok := m.gate.Recorder().(*audit.Log); ok {
		return log.Reopen(ctx)
	}
	return nil
}
