package core

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
	"github.com/conclave-secrets/conclave/seal/shamir"
	"io"
)

// Gate holds this node's keys while it is unsealed, and collects shares while
// it is not. Safe for concurrent use.
type Gate struct {
	rand io.Reader

	catalog Catalog
	// openLog opens the audit log with keys at hand; nil: there is none.
	openLog func(*seal.Barrier) (Recorder, error)

	// keys is nil while sealed. Requests in flight keep those that they began
	// with; the barrier answers seal.ErrSealed once it was wiped.
	keys atomic.Pointer[keys]

	mu       sync.Mutex // one step of the ceremony at a time
	unsealer *seal.Unsealer
	config   seal.Config
}

// keys is what an unsealed node works with.
type keys struct {
	barrier   *seal.Barrier
	directory *directory
	recorder  Recorder // nil: nobody keeps a log
}

// NewGate returns a sealed gate that takes its randomness from rand. catalog is
// what can be mounted once it is open. openLog, unless nil, opens the audit log
// each time the gate opens; without the log the gate stays shut.
func NewGate(rand io.Reader, catalog Catalog, openLog func(*seal.Barrier) (Recorder, error)) *Gate {
	return &Gate{rand: rand, catalog: catalog, openLog: openLog}
}

// Recorder is the audit log at work; nil while the node is sealed, or keeps none.
func (g *Gate) Recorder() Recorder {
	if k := g.keys.Load(); k != nil {
		return k.recorder
	}
	return nil
}

// Sealed tells whether the node has no keys.
func (g *Gate) Sealed() bool { return g.keys.Load() == nil }

// Barrier returns the keys at work, or seal.ErrSealed.
func (g *Gate) Barrier() (*seal.Barrier, error) {
	keys, err := g.open()
	if err != nil {
		return nil, err
	}
	return keys.barrier, nil
}

// open returns the keys at work, or seal.ErrSealed.
func (g *Gate) open() (*keys, error) {
	if k := g.keys.Load(); k != nil {
		return k, nil
	}
	return nil, seal.ErrSealed
}

// Progress tells how far the ceremony on this node is.
func (g *Gate) Progress(cfg seal.Config) seal.Progress {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.Sealed() {
		return seal.Progress{Have: cfg.Threshold(), Need: cfg.Threshold()}
	}
	return g.ceremony(cfg).Progress()
}

// ceremony returns the unsealer for cfg; a rekey in between starts it anew. Without
// a share it opens the keyring of cfg, which a rotation may have changed.
func (g *Gate) ceremony(cfg seal.Config) *seal.Unsealer {
	if g.unsealer == nil || g.unsealer.Progress().Have == 0 || g.config.Cluster != cfg.Cluster || g.config.Generation != cfg.Generation {
		g.unsealer, g.config = seal.NewUnsealer(cfg), cfg
	}
	return g.unsealer
}

// Submit takes one share, as text in any form that shamir.ParseShare reads. The
// share that completes the threshold opens the gate.
func (g *Gate) Submit(cfg seal.Config, share string) (seal.Progress, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.Sealed() {
		return seal.Progress{Have: cfg.Threshold(), Need: cfg.Threshold()}, nil
	}
	progress, keyring, err := g.ceremony(cfg).Submit(share)
	if err != nil {
		return progress, explainShare(err)
	}
	if keyring == nil {
		return progress, nil
	}
	barrier, err := seal.NewBarrier(g.rand, cfg.Cluster, keyring)
	if err != nil {
		return progress, errors.Join(fmt.Errorf("unsealing: %w", err), keyring.Wipe())
	}
	opened := &keys{barrier: barrier, directory: &directory{catalog: g.catalog}}
	if g.openLog != nil {
		if opened.recorder, err = g.openLog(barrier); err != nil {
			return progress, errors.Join(refuse(conclavev1.Reason_REASON_INTERNAL, "the audit log cannot be opened, so the node stays sealed",
				"see the node's log"), err, barrier.Wipe())
		}
	}
	g.keys.Store(opened)
	return progress, nil
}

// Reset forgets the shares given so far.
func (g *Gate) Reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unsealer != nil {
		g.unsealer.Reset()
	}
}

// Close seals the node: it wipes the keys. Requests in flight fail as sealed.
func (g *Gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unsealer != nil {
		g.unsealer.Reset()
	}
	if k := g.keys.Swap(nil); k != nil {
		err := k.barrier.Wipe()
		if k.recorder != nil {
			err = errors.Join(k.recorder.Close(), err)
		}
		return err
	}
	return nil
}

// explainShare says which share is wrong and how, and never shows it.
func explainShare(err error) error {
	var (
		generation *shamir.WrongGenerationError
		wrong      *shamir.WrongShareError
		repeated   *shamir.RepeatedError
	)
	switch {
	case errors.Is(err, shamir.ErrGarbled):
		return refuse(conclavev1.Reason_REASON_SHARE_GARBLED, "the share is garbled: its checksum is wrong", "type it again, or paste it whole")
	case errors.Is(err, shamir.ErrForeignCluster):
		return refuse(conclavev1.Reason_REASON_SHARE_FOREIGN_CLUSTER, "the share belongs to another cluster", "look whether this is the right node")
	case errors.As(err, &generation):
		return refuse(conclavev1.Reason_REASON_SHARE_WRONG_GENERATION, generation.Error(), "use the shares of the last rekey")
	case errors.As(err, &wrong):
		e := refuse(conclavev1.Reason_REASON_SHARE_WRONG, wrong.Error(), "ask its custodian to look at it again")
		e.Share = wrong.Index
		return e
	case errors.As(err, &repeated):
		e := refuse(conclavev1.Reason_REASON_SHARE_REPEATED, repeated.Error(), "another custodian's share is needed")
		e.Share = repeated.Index
		return e
	case errors.Is(err, seal.ErrConfigAltered):
		return refuse(conclavev1.Reason_REASON_INTERNAL, "the shares are right, but this node's seal configuration was altered", "check this node's disk; unseal another node")
	}
	return err
}
