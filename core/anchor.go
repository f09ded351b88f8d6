package core

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/seal"
)

// spaceAnchor has the heads of the nodes' audit logs, by blinded node id.
const spaceAnchor fsm.Space = 0x1f

// anchorFormat is the number of the format of anchorRow, as JSON.
const anchorFormat = 1

// anchorRow is what the ledger knows of one node's audit log.
type anchorRow struct {
	Format  int            `json:"format"`
	Node    string         `json:"node"`
	Anchors []audit.Anchor `json:"anchors"` // the oldest first
}

// Anchors notes the head of this node's audit log in the ledger, where whoever holds
// the log's file cannot change it.
type Anchors struct {
	pipeline *Pipeline
	node     string
	now      func() time.Time
	noted    audit.Head // the newest that is known to be in the ledger
}

// NewAnchors returns the anchors of a node, which now dates.
func NewAnchors(p *Pipeline, node string, now func() time.Time) *Anchors {
	return &Anchors{pipeline: p, node: node, now: now}
}

// ErrAnchorAhead: the ledger has a newer head of this log than the log itself.
var ErrAnchorAhead = errors.New("the audit log is behind what was anchored of it: its file is not the one that was written")

// maxAnchorAttempts bounds how often an anchor is tried: nobody but this node
// writes its row.
const maxAnchorAttempts = 4

// Note commits the head of the log as it is now, if that is a new one. It does
// nothing while the node is sealed or keeps no log. Calls must not overlap.
func (a *Anchors) Note(ctx context.Context) error {
	keys := a.pipeline.gate.keys.Load()
	if keys == nil {
		return nil
	}
	log, ok := keys.recorder.(interface{ Head() audit.Head })
	if !ok {
		return nil
	}
	head := log.Head()
	if head == a.noted {
		return nil
	}
	if err := a.pipeline.writable(); err != nil {
		return fmt.Errorf("anchoring the audit log: %w", err)
	}
	index := uint64(0)
	for range maxAnchorAttempts {
		batch, err := a.evaluate(ctx, keys, head, index)
		if err != nil {
			return fmt.Errorf("anchoring the audit log: %w", err)
		}
		if batch != nil {
			result, err := a.pipeline.ledger.Propose(ctx, batch)
			if err != nil {
				return fmt.Errorf("anchoring the audit log: %w", err)
			}
			if result.Code == fsm.Conflict {
				index = result.Index
				continue
			}
			if result.Code != fsm.Applied {
				return fmt.Errorf("anchoring the audit log: %w", refusedBatch(result.Reason))
			}
		}
		a.noted = head
		return nil
	}
	return errors.New("anchoring the audit log: the row keeps changing")
}

// evaluate makes the batch that notes head; nil if it is noted already.
func (a *Anchors) evaluate(ctx context.Context, keys *keys, head audit.Head, atLeast uint64) (batch *fsm.Batch, err error) {
	view, err := a.pipeline.views.at(ctx, atLeast)
	if err != nil {
		return nil, err
	}
	defer closeView(view, &err)
	t := newTx(view, keys, a.pipeline.rand, true)
	key, err := t.barrier.Blind(spaceAnchor, []string{a.node})
	if err != nil {
		return nil, err
	}
	row, err := t.anchors(key)
	if err != nil {
		return nil, err
	}
	if n := len(row.Anchors); n > 0 {
		switch last := row.Anchors[n-1].Head; {
		case last == head:
			return nil, nil
		case last.Seq >= head.Seq:
			return nil, ErrAnchorAhead // the older anchor is the evidence; it stays
		}
	}
	row.Format, row.Node = anchorFormat, a.node
	row.Anchors = audit.Keep(row.Anchors, audit.Anchor{Head: head, Time: a.now().UTC()})
	value, err := json.Marshal(row)
	if err != nil {
		return nil, err
	}
	return &t.batch, t.putRecord(key, value, nil)
}

// anchors reads a row; it is empty where there is none.
func (t *tx) anchors(key fsm.Key) (row anchorRow, err error) {
	r, value, err := t.record(key)
	if err != nil || r == nil {
		return row, err
	}
	if err := json.Unmarshal(value, &row); err != nil {
		return row, fmt.Errorf("reading the anchors of an audit log: %w", err)
	}
	if row.Format != anchorFormat {
		return row, fmt.Errorf("reading the anchors of an audit log: format %d is not known here", row.Format)
	}
	return row, nil
}

// LastAnchor returns the newest head of a node's audit log that the view knows; the
// zero Head if it knows none.
func LastAnchor(v *fsm.View, b *seal.Barrier, node string) (audit.Head, error) {
	t := newTx(v, &keys{barrier: b}, nil, false)
	key, err := b.Blind(spaceAnchor, []string{node})
	if err != nil {
		return audit.Head{}, err
	}
	row, err := t.anchors(key)
	if err != nil || len(row.Anchors) == 0 {
		return audit.Head{}, err
	}
	return row.Anchors[len(row.Anchors)-1].Head, nil
}

// AuditAnchors returns the anchors of each node's audit log, those of one log in its
// order. Nodes that were removed stay: so do their logs.
func (t *tx) AuditAnchors() (map[string][]audit.Anchor, error) {
	keys, err := t.view.Keys(fsm.Records, fsm.Key{byte(spaceAnchor)})
	if err != nil {
		return nil, err
	}
	all := map[string][]audit.Anchor{}
	for keys.Next() {
		row, err := t.anchors(slices.Clone(keys.Key()))
		if err != nil {
			return nil, firstError(err, keys.Close())
		}
		all[row.Node] = row.Anchors
	}
	return all, keys.Close()
}

// AuditSinks lists where this node records requests, the file first; none if it keeps
// no record.
func (t *tx) AuditSinks() []audit.Description {
	if log, ok := t.account.recorder.(interface{ Sinks() []audit.Description }); ok {
		return log.Sinks()
	}
	return nil
}

// AuditHash spells a value as this node's audit log does, in the sink of that name.
func (t *tx) AuditHash(sink, value string) (string, error) {
	log, ok := t.account.recorder.(interface{ HashValue(value []byte) string })
	known := slices.ContainsFunc(t.AuditSinks(), func(d audit.Description) bool { return d.Name == strings.TrimSuffix(sink, "/") })
	if !ok || !known {
		return "", &engine.InvalidError{Why: "unknown audit device"}
	}
	return log.HashValue([]byte(value)), nil
}
