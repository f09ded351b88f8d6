package faultfs

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
)

// Loss is what a power cut took.
type Loss struct {
	Writes int64 // writes and resizes lost
	Torn   int64 // writes kept in part
	Names  int64 // changes of names taken back
	Kept   int64 // unsynced changes that happened to be kept
}

// PowerCut makes the file system what a disk could hold after a power failure now,
// chosen by seed, and mounts it again. Everything unsynced is then either lost or
// durable. The processes that used it were killed before: ErrBusy, and nothing
// changed, if one still runs. Rules stay; what hangs in them blocks a killed
// process at most for a moment.
//
// The same changes made in the same order and the same seed give the same loss.
func (f *FS) PowerCut(seed uint64) (Loss, error) {
	var loss Loss
	if err := f.unmount(); err != nil {
		return loss, fmt.Errorf("cutting the power: %w", err)
	}
	if err := f.cut(seed, &loss); err != nil {
		return loss, fmt.Errorf("cutting the power: %w", err)
	}
	f.rules.count("lost writes", loss.Writes)
	f.rules.count("torn writes", loss.Torn)
	f.rules.count("lost names", loss.Names)
	return loss, f.mount()
}

func (f *FS) cut(seed uint64, loss *Loss) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.cutData(seed, loss)
	if err == nil {
		err = f.cutNames(rand.New(rand.NewPCG(seed, 0)), loss)
	}
	return errors.Join(err, f.forget())
}

// cutData decides every file's unsynced changes.
func (f *FS) cutData(seed uint64, loss *Loss) error {
	for _, o := range f.objects {
		if len(o.log) == 0 {
			continue
		}
		// By its name, so that neither map order nor inode numbers matter.
		h := fnv.New64a()
		_, _ = h.Write([]byte(o.name)) // never fails
		if err := o.cut(rand.New(rand.NewPCG(seed, h.Sum64())), loss); err != nil {
			return fmt.Errorf("taking back writes of %s: %w", o.name, err)
		}
	}
	return nil
}

// cut takes all changes back and does the chosen ones again.
func (o *object) cut(rng *rand.Rand, loss *Loss) error {
	keep, torn := choose(o.log, rng)
	for _, c := range slices.Backward(o.log) {
		if err := c.undo(o.data); err != nil {
			return err
		}
	}
	for i := range o.log {
		c := &o.log[i]
		if c.safe || keep[i] {
			if err := c.redo(o.data, c.off, c.off+int64(len(c.new))); err != nil {
				return err
			}
			if !c.safe {
				loss.Kept++
			}
			continue
		}
		if i != torn {
			loss.Writes++
			continue
		}
		loss.Torn++
		at := tear(c, rng)
		lo, hi := c.off, at
		if rng.IntN(2) == 0 {
			lo, hi = at, c.off+int64(len(c.new))
		}
		if err := c.redo(o.data, lo, hi); err != nil {
			return err
		}
	}
	return nil
}

// choose decides which changes a disk had done: none, all, the oldest few or any;
// and perhaps one that it had half done, -1 if none.
func choose(log []change, rng *rand.Rand) (keep []bool, torn int) {
	keep = make([]bool, len(log))
	switch n := rng.IntN(len(log) + 1); rng.IntN(5) {
	case 0: // nothing reached the disk
	case 1: // all did
		for i := range keep {
			keep[i] = true
		}
	case 2, 3: // in order, and then the light went out
		for i := range n {
			keep[i] = true
		}
	case 4: // the disk chose its own order
		for i := range keep {
			keep[i] = rng.IntN(2) == 0
		}
	}
	torn = -1
	if rng.IntN(2) == 0 {
		// The oldest change that was not kept and spans sectors.
		torn = slices.IndexFunc(log, func(c change) bool { return !c.safe && spans(&c) })
		for torn >= 0 && keep[torn] {
			next := slices.IndexFunc(log[torn+1:], func(c change) bool { return !c.safe && spans(&c) })
			if next < 0 {
				return keep, -1
			}
			torn += 1 + next
		}
	}
	return keep, torn
}

// spans says whether a write crosses a sector boundary.
func spans(c *change) bool {
	return len(c.new) > 0 && c.off/sector != (c.off+int64(len(c.new))-1)/sector
}

// tear picks a sector boundary inside a write.
func tear(c *change, rng *rand.Rand) int64 {
	first := c.off/sector + 1
	last := (c.off + int64(len(c.new)) - 1) / sector
	return (first + rng.Int64N(last-first+1)) * sector
}

// cutNames decides the unsynced changes of names: of each directory a number of
// the oldest stay, and what depends on a lost one is lost.
func (f *FS) cutNames(rng *rand.Rand, loss *Loss) error {
	count, keep := map[*object]int{}, map[*object]int{}
	for _, e := range f.entries {
		for _, d := range distinct(e.dirs) {
			count[d]++
		}
	}
	dirs := slices.Collect(maps.Keys(count))
	slices.SortFunc(dirs, func(a, b *object) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.generation, b.generation))
	})
	for _, d := range dirs {
		switch rng.IntN(3) {
		case 0:
			keep[d] = 0
		case 1:
			keep[d] = count[d]
		case 2:
			keep[d] = rng.IntN(count[d] + 1)
		}
	}
	var lost []*entry
	for i, e := range f.entries {
		drop := f.options.Ordered && len(lost) > 0
		for _, d := range distinct(e.dirs) {
			drop = drop || keep[d] <= 0
			keep[d]--
		}
		if !drop {
			loss.Kept++
			continue
		}
		for _, d := range e.dirs {
			keep[d] = 0
		}
		if lost = append(lost, e); e.all {
			lost = append(lost, f.entries[i+1:]...)
			break
		}
	}
	for _, e := range slices.Backward(lost) {
		if err := e.undo(); err != nil {
			return fmt.Errorf("taking back a name in %q: %w", e.dirs[0].name, err)
		}
	}
	loss.Names += int64(len(lost))
	return nil
}

func distinct(dirs []*object) []*object {
	var list []*object
	for _, d := range dirs {
		if !slices.Contains(list, d) {
			list = append(list, d)
		}
	}
	return list
}
