package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/seal"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// An AuditConfig says where this node records who did what.
type AuditConfig struct {
	// Disable keeps no record at all.
	Disable bool
	// File is where. Empty: audit/audit.log in the data directory.
	File string
	// Strictness of the file: "required" or "best-effort". With the latter a request
	// goes on without a record when the file fails. Empty: required.
	Strictness string
	// Deadline is how long a group of records may take in the file. Zero: 5 s.
	Deadline time.Duration
	// MaxSizeMiB is how large a file grows before the next begins. Zero: 100.
	MaxSizeMiB int
	// MaxAge is how old a file grows before the next begins. Zero: any age.
	MaxAge time.Duration
	// Keep is how many old files stay. Zero: all.
	Keep int
	// KeepDays is how many days an old file stays. Zero: for ever.
	KeepDays int
	// Sinks are the copies beside the file.
	Sinks []AuditSinkConfig
}

func (c *AuditConfig) defaults(dataDir string) {
	def(&c.File, filepath.Join(dataDir, "audit", "audit.log"))
	def(&c.Strictness, strictRequired)
	def(&c.Deadline, 5*time.Second)
}

// openAudit opens the audit log of an unsealed node.
func (m *member) openAudit(b *seal.Barrier) (core.Recorder, error) {
	c := m.cfg.Audit
	if c.Disable {
		m.logger.Warn("no audit log is kept: who reads which secret is not recorded")
		return nil, nil
	}
	if err := vfs.MkdirAllSync(vfs.Default, filepath.Dir(c.File)); err != nil {
		return nil, fmt.Errorf("making the directory of the audit log: %w", err)
	}
	options, err := m.auditOptions(b)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	log, err := audit.Open(options)
	if err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	return log, nil
}

func (m *member) auditOptions(b *seal.Barrier) (o audit.Options, err error) {
	c, logger := m.cfg.Audit, m.logger.With("part", "audit")
	o = audit.Options{
		Path: c.File, Node: m.id.NodeID, Cluster: m.id.Cluster, Strictness: strictness(c.Strictness), Deadline: c.Deadline,
		MaxSize: int64(c.MaxSizeMiB) << 20, MaxAge: c.MaxAge, Keep: c.Keep, KeepDays: c.KeepDays,
		Notify: func(e audit.Event) {
			if e.Err != nil {
				logger.Error(string(e.Kind), "sink", e.Sink, "detail", e.Detail, "error", e.Err)
				return
			}
			logger.Warn(string(e.Kind), "sink", e.Sink, "detail", e.Detail)
		},
	}
	for i := range c.Sinks {
		sink, err := c.Sinks[i].open(cmp.Or(m.cfg.NodeName, m.id.NodeID))
		if err != nil {
			return o, err
		}
		o.Sinks = append(o.Sinks, sink)
	}
	if o.Hash, err = core.AuditHasher(b); err != nil {
		return o, err
	}
	o.Anchor, err = m.lastAnchor(b)
	return o, err
}

// lastAnchor is the newest head of this node's log that this node has in its ledger.
// The rest of the cluster may know a newer one, if this node was stopped right after
// it; an older anchor proves less, and nothing wrong.
func (m *member) lastAnchor(b *seal.Barrier) (head audit.Head, err error) {
	view, err := m.machine.View()
	if err != nil {
		return head, err
	}
	head, err = core.LastAnchor(view, b, m.id.NodeID)
	return head, errors.Join(err, view.Close())
}

const (
	// anchorEvery is how often the head of the log goes into the ledger, if anything
	// was recorded: what a thief of the file can write anew is younger than that, and
	// one small entry per node in that time costs nothing.
	anchorEvery = 10 * time.Second
	// anchorTime bounds one try, anchorLastTime the one before a seal or an end: it
	// fails without a quorum, and nobody should wait long for that.
	anchorTime     = 5 * time.Second
	anchorLastTime = time.Second
)

// anchoring notes heads of the audit log in the ledger, now and then.
type anchoring struct {
	turn    chan struct{} // holds one while somebody uses anchors
	anchors *core.Anchors
}

// now notes the head.
func (a *anchoring) now(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-a.turn }()
	return a.anchors.Note(ctx)
}

// startAnchors anchors the audit log until the member closes, and then once more,
// while there still is a cluster to tell.
func (m *member) startAnchors(p *core.Pipeline) {
	m.anchoring = &anchoring{turn: make(chan struct{}, 1), anchors: core.NewAnchors(p, m.id.NodeID, time.Now)}
	if m.cfg.Audit.Disable {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() {
		tick := time.NewTicker(anchorEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				m.anchor(ctx, anchorTime)
			}
		}
	})
	m.closeLater(func() error {
		stop()
		loop.Wait()
		m.anchor(context.Background(), anchorLastTime)
		return nil
	})
}

// anchor notes the head of the audit log, and logs that it could not: the next try
// notes all that this one would have.
func (m *member) anchor(ctx context.Context, patience time.Duration) {
	if err := m.anchoring.now(ctx, patience); err != nil && ctx.Err() == nil {
		m.logger.Warn("the audit log is not anchored", "error", err)
	}
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
