package sim

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/seal"
)

// What is planted around the keys, and in the order in which leases end.

// misplaced now and then puts the value of another secret where a value is written. A
// seal that does not bind a value to its place would open it there, so it is sealed
// anew for the place: a value that moved, and opens.
func misplaced(o *Options) {
	var mu sync.Mutex
	var other []byte // the value that was written last
	n := 0
	take := func(value []byte) (moved []byte) {
		mu.Lock()
		defer mu.Unlock()
		moved, other = other, bytes.Clone(value)
		if n++; n%20 != 0 {
			return nil
		}
		return moved
	}
	o.seams.Ledger = func(p *testcluster.Process, l core.Ledger) core.Ledger {
		return changedBatches{l, func(b *fsm.Batch) {
			barrier, err := p.Gate.Barrier()
			if err != nil {
				return // sealed: there is nothing to move
			}
			for i := range b.Operations {
				op := &b.Operations[i]
				if op.Kind != fsm.OpAppendVersion || !inSpace(op.Key, spaceSecret) {
					continue
				}
				value, err := barrier.Open(seal.TableVersion, op.Key, op.Number, op.Value)
				if err != nil {
					continue // sealed meanwhile
				}
				if moved := take(value); moved != nil {
					if again, err := barrier.Seal(seal.TableVersion, op.Key, op.Number, moved); err == nil {
						op.Value = again
					}
				}
			}
		}}
	}
}

// unadopted has a node go on with the keyring of its first view for as long as it
// lives: what is sealed under a newer key it cannot open.
func unadopted(o *Options) {
	o.seams.Ledger = func(_ *testcluster.Process, l core.Ledger) core.Ledger { return &oldKeyring{Ledger: l} }
}

type oldKeyring struct {
	core.Ledger
	mu      sync.Mutex
	adopted fsm.Revision // guarded by mu; of the seal's configuration, 0: none yet
}

func (l *oldKeyring) View() (*fsm.View, error) {
	v, err := l.Ledger.View()
	if err != nil {
		return nil, err
	}
	r, err := v.Record(seal.ConfigKey)
	if err != nil || r == nil {
		return v, nil // who reads the record will see
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.adopted == 0 {
		l.adopted = r.Revision
	}
	if l.adopted == r.Revision {
		return v, nil
	}
	if err := v.Close(); err != nil {
		return nil, err
	}
	return nil, &seal.UnknownKeyError{Version: 2}
}

// oldGeneration ends a lease when its first term is over, although it was renewed: as
// where what is due is found by a generation that nobody compares.
func oldGeneration(ctx context.Context, l core.Ledger, b *fsm.Batch) (fsm.Result, error) {
	i := slices.IndexFunc(b.Operations, func(o fsm.Operation) bool { return o.Kind == fsm.OpRenewLease && inSpace(o.Key, spaceLease) })
	if i < 0 {
		return l.Propose(ctx, b)
	}
	key := slices.Clone(b.Operations[i].Key)
	due, ok := endOf(l, key)
	r, err := l.Propose(ctx, b)
	if ok && err == nil && r.Code == fsm.Applied {
		go endAt(l, key, due)
	}
	return r, err
}

// endOf is when a lease ends, as this node sees it.
func endOf(l core.Ledger, key fsm.Key) (due fsm.LogTime, ok bool) {
	v, err := l.View()
	if err != nil {
		return 0, false
	}
	defer v.Close()
	lease, usable, err := v.Lease(key)
	if err != nil || !usable {
		return 0, false
	}
	return lease.Expires, true
}

// endAt revokes a lease when log time has come to due, and gives up before long.
func endAt(l core.Ledger, key fsm.Key, due fsm.LogTime) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		v, err := l.View()
		if err != nil {
			return // the node died, and the expiry with it
		}
		now := v.Time()
		if err := v.Close(); err != nil {
			return
		}
		if now >= due {
			_, _ = l.Propose(ctx, &fsm.Batch{Operations: []fsm.Operation{{Kind: fsm.OpRevokeLease, Key: key}}}) // nobody waits for it
			return
		}
		<-time.After(10 * time.Millisecond)
	}
}
