package core

import (
	"context"

	"github.com/conclave-secrets/conclave/fsm"
)

// countPause is after how many rows a count looks whether its caller is still there.
const countPause = 4096

// count walks over the keys of a table below prefix.
func (t *tx) count(ctx context.Context, table fsm.Table, prefix fsm.Key, each func(fsm.Key) error) error {
	keys, err := t.view.Keys(table, prefix)
	if err != nil {
		return err
	}
	for n := 0; keys.Next(); n++ {
		if n%countPause == 0 && ctx.Err() != nil {
			return firstError(ctx.Err(), keys.Close())
		}
		if err := each(keys.Key()); err != nil {
			return firstError(err, keys.Close())
		}
	}
	return keys.Close()
}

// CountLeases counts the leases that the Leases calls know, by the path of the mount
// that their ids lie in; "" where there is none. With revoking, it counts only those
// that wait for the outside world to be put right. It looks at each of them.
func (t *tx) CountLeases(ctx context.Context, revoking bool) (map[string]uint64, error) {
	table, err := t.mounts()
	if err != nil {
		return nil, err
	}
	counts := map[string]uint64{}
	err = t.count(ctx, fsm.Leases, fsm.Key{byte(spaceLease)}, func(key fsm.Key) error {
		l, err := t.listed(key)
		if err != nil || l == nil || revoking && l.State != fsm.LeaseRevoking.String() {
			return err
		}
		mount := ""
		if m, _ := table.find(l.Id); m != nil {
			mount = m.Path
		}
		counts[mount]++
		return nil
	})
	return counts, err
}

// CountTokens counts the tokens that are kept and alive. It looks at each of them.
func (t *tx) CountTokens(ctx context.Context) (n uint64, err error) {
	err = t.count(ctx, fsm.Records, fsm.Key{byte(spaceToken)}, func(key fsm.Key) error {
		r, err := t.view.Record(key)
		if r != nil {
			n++
		}
		return err
	})
	return n, err
}
