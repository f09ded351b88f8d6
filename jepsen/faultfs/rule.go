package faultfs

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Op is a set of operations that a rule is about.
type Op uint16

// The operations. Write is also truncate, fallocate and changes of modes, Create
// also mkdir and links, Remove also rmdir; Look is lookup, open, stat, statfs and
// listing a directory. A page fault in a mapped file is a Read: an error there is
// a SIGBUS.
const (
	Read Op = 1 << iota
	Write
	Sync
	Create
	Rename
	Remove
	Look

	All = Read | Write | Sync | Create | Rename | Remove | Look
)

// Rule is a fault that is on while the rule is set. It bites the operations Ops on
// the files that Pattern names, in the order Delay, Hang, then Errno or Lie.
type Rule struct {
	Name string // by which it is counted and cleared
	Ops  Op     // ignored by Full
	// Pattern is a path.Match pattern for the file's path below the mount point, or
	// for its last element; one that ends in a slash is everything below that
	// directory, and "" is everything. A renamed directory's open files keep their
	// old paths; a rename is seen under its new one.
	Pattern string
	// Times is how often it bites. Zero: until it is cleared.
	Times int64

	Delay time.Duration // per operation
	Hang  bool          // until cleared; then the operation goes on
	Errno syscall.Errno // 0: none
	Lie   bool          // a Sync answers yes and makes nothing durable
	// Full: files may grow by Room bytes more, and then ENOSPC; statfs says so.
	// Truncating and removing give room back; overwriting needs none.
	Full bool
	Room int64
}

type rule struct {
	Rule
	released chan struct{}
}

// rules are the faults that are on, and how often each bit.
type rules struct {
	closed chan struct{}

	mu     sync.Mutex
	set    map[string]*rule
	counts map[string]int64
}

func newRules() *rules {
	return &rules{closed: make(chan struct{}), set: map[string]*rule{}, counts: map[string]int64{}}
}

// Set switches a fault on, in place of one of the same name.
func (f *FS) Set(r Rule) error {
	if err := r.valid(); err != nil {
		return fmt.Errorf("setting the fault %q: %w", r.Name, err)
	}
	f.Clear(r.Name)
	f.rules.mu.Lock()
	defer f.rules.mu.Unlock()
	f.rules.set[r.Name] = &rule{Rule: r, released: make(chan struct{})}
	return nil
}

func (r Rule) valid() error {
	if _, err := path.Match(r.Pattern, ""); err != nil {
		return fmt.Errorf("pattern %q: %w", r.Pattern, err)
	}
	switch {
	case r.Name == "":
		return errors.New("it needs a name")
	case r.Lie && r.Ops != Sync:
		return errors.New("only a sync can lie")
	case r.Full && (r.Room < 0 || r.Delay != 0 || r.Hang || r.Errno != 0 || r.Lie || r.Times != 0):
		return errors.New("a full disk is a rule of its own, and its room is not negative")
	case r.Full:
		return nil
	case r.Ops == 0 || r.Ops&^All != 0:
		return errors.New("it needs operations")
	case r.Delay <= 0 && !r.Hang && r.Errno == 0 && !r.Lie:
		return errors.New("it does nothing")
	}
	return nil
}

// Clear switches faults off, all of them if none is named, and lets what hangs in
// them go on.
func (f *FS) Clear(names ...string) {
	f.rules.mu.Lock()
	defer f.rules.mu.Unlock()
	if len(names) == 0 {
		names = slices.Collect(maps.Keys(f.rules.set))
	}
	for _, name := range names {
		if r := f.rules.set[name]; r != nil {
			close(r.released)
			delete(f.rules.set, name)
		}
	}
}

// Counts returns how often each fault bit, by the rule's name, cleared rules
// included; a Full rule counts the writes that it cut short or refused. The
// caller owns the map.
func (f *FS) Counts() map[string]int64 {
	f.rules.mu.Lock()
	defer f.rules.mu.Unlock()
	return maps.Clone(f.rules.counts)
}

func (r *rules) count(what string, n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what] += n
}

// close fails what waits and all that comes.
func (r *rules) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.closed:
	default:
		close(r.closed)
	}
}

func (r *rule) covers(name string) bool {
	if dir, ok := strings.CutSuffix(r.Pattern, "/"); ok {
		return strings.HasPrefix(name, dir+"/")
	}
	// The pattern was checked when the rule was set.
	whole, _ := path.Match(r.Pattern, name)
	last, _ := path.Match(r.Pattern, path.Base(name))
	return r.Pattern == "" || whole || last
}

// bite returns the rules that this operation meets, and counts them.
func (r *rules) bite(op Op, name string) []*rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	var met []*rule
	for _, x := range r.set {
		if x.Full || x.Ops&op == 0 || !x.covers(name) {
			continue
		}
		met = append(met, x)
		r.counts[x.Name]++
		if x.Times--; x.Times == 0 {
			delete(r.set, x.Name)
		}
	}
	slices.SortFunc(met, func(a, b *rule) int { return cmp.Compare(a.Name, b.Name) })
	return met
}

// take claims more bytes of room for a file to grow, of a write of the given
// length, and returns how much of the length fits.
func (r *rules) take(name string, more, length int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	granted := more
	for _, x := range r.set {
		if x.Full && x.covers(name) && x.Room < granted {
			granted = x.Room
			r.counts[x.Name]++
		}
	}
	fits := max(0, length-(more-granted))
	if fits == 0 {
		return 0
	}
	for _, x := range r.set {
		if x.Full && x.covers(name) {
			x.Room -= granted
		}
	}
	return fits
}

func (r *rules) giveBack(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.set {
		if x.Full && n > 0 {
			x.Room += n
		}
	}
}

// room is what statfs may show, if a rule limits it.
func (r *rules) room() (room int64, full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.set {
		if x.Full && (!full || x.Room < room) {
			room, full = x.Room, true
		}
	}
	return room, full
}
