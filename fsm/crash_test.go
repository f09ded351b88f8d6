package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/conclave-secrets/conclave/storage/state"
	"github.com/conclave-secrets/conclave/storage/vfs"
)

// A script is a history with the places where a replica flushes, restarts and
// installs a snapshot. It stops at the first error.
type script struct {
	want  *history
	image []byte // snapshot of the state at position at
	at    int
}

func newScript(t *testing.T) *script {
	h := newHistorian(t, 7)
	h.write(30)
	s := &script{at: len(h.history.log) - 1}
	d := &disk{t: t, machine: h.machine}
	s.image = d.image()
	s.want = h.write(30)
	return s
}

// run plays the script on fs. durable, when it is not nil, always holds an index that
// the store has promised to keep.
func (s *script) run(fs vfs.FS, opts state.Options, durable *atomic.Uint64) (err error) {
	position := 0
	for _, leg := range []struct {
		until   int
		restore bool
	}{{10, false}, {20, false}, {20, true}, {45, false}, {len(s.want.log), false}} {
		store, err := state.Open("dir/state", fs, opts)
		if err != nil {
			return err
		}
		m, err := Open(store)
		if err != nil {
			return errors.Join(err, store.Close())
		}
		if applied, _ := m.Applied(); position > 0 && applied < s.want.log[position-1].Index {
			return errors.Join(errors.New("a clean restart lost entries"), m.Close(), store.Close())
		}
		if leg.restore {
			err = m.Restore(bytes.NewReader(s.image))
			position = s.at + 1
		} else {
			err = s.apply(m, position, leg.until)
			position = leg.until
		}
		if err == nil {
			if err = m.Flush(); err == nil && durable != nil {
				durable.Store(s.want.log[position-1].Index)
			}
		}
		if err = errors.Join(err, m.Close(), store.Close()); err != nil {
			return err
		}
	}
	return nil
}

var errWrong = errors.New("wrong answer")

func (s *script) apply(m *Machine, from, to int) error {
	for ; from < to; from++ {
		got, err := m.Apply(s.want.log[from : from+1])
		if err != nil {
			if _, again := m.Apply(s.want.log[from : from+1]); again == nil {
				return fmt.Errorf("%w: a halted machine applies", errWrong)
			}
			return err
		}
		if d := cmp.Diff(s.want.results[from], got[0], cmpopts.IgnoreUnexported(Result{}), cmpopts.EquateEmpty()); d != "" {
			return fmt.Errorf("%w: entry %d (-want +got):\n%s", errWrong, from, d)
		}
		if _, hash := m.StateHash(); hash != s.want.hashes[from] {
			return fmt.Errorf("%w: state hash after entry %d", errWrong, from)
		}
	}
	return nil
}

// recover opens what a crash left, and replays the log from there.
func (s *script) recover(fs vfs.FS, durable uint64) error {
	store, err := state.Open("dir/state", fs, state.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10})
	if err != nil {
		return err
	}
	m, err := Open(store)
	if err != nil {
		return err
	}
	if err := m.Verify(); err != nil {
		return err
	}
	applied, _ := m.Applied()
	position := 0
	for position < len(s.want.log) && s.want.log[position].Index <= applied {
		position++
	}
	_, hash := m.StateHash()
	switch {
	case applied < durable:
		return fmt.Errorf("applied is %d, but %d was durable", applied, durable)
	case position > 0 && (s.want.log[position-1].Index != applied || s.want.hashes[position-1] != hash):
		return fmt.Errorf("state at %d is not that after an entry", applied)
	}
	if err := s.apply(m, position, len(s.want.log)); err != nil {
		return err
	}
	return errors.Join(m.Verify(), m.Close(), store.Close())
}

// A power cut at any write leaves the state after some entry, at least the last
// that was flushed or installed, and the log brings it back to the newest,
// whichever of the unsynced bytes survive.
func TestCrashAtEveryWriteBoundary(t *testing.T) {
	s := newScript(t)
	type cut struct {
		fs      *vfs.MemFS
		durable uint64
		op      string
	}
	for _, percent := range []int{0, 50, 100} {
		var mu sync.Mutex
		var cuts []cut
		var durable atomic.Uint64
		mem := vfs.NewCrashableMem()
		dice := rand.New(rand.NewPCG(uint64(percent), 2))
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
				mu.Lock()
				defer mu.Unlock()
				floor := durable.Load() // before the clone, which may hold more
				cuts = append(cuts, cut{mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: dice}), floor,
					fmt.Sprintf("operation %d on %s", op.Kind, op.Path)})
			}
			return nil
		}))
		if err := s.run(fs, state.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10}, &durable); err != nil {
			t.Fatal(err)
		}
		if len(cuts) < 100 {
			t.Fatalf("only %d boundaries: the hook is not in the path", len(cuts))
		}
		for i, c := range cuts {
			if err := s.recover(c.fs, c.durable); err != nil {
				t.Fatalf("percent %d, cut %d of %d before %s: %v", percent, i, len(cuts), c.op, err)
			}
		}
		t.Logf("percent %d: %d cuts", percent, len(cuts))
	}
}

// A write that fails, once or from then on, never makes a wrong answer: what is
// answered is right, an error stays, and what is on disk is the state after some
// entry.
func TestInjectedErrorAtEveryWrite(t *testing.T) {
	s := newScript(t)
	failures, fatal := 0, 0
	for _, forever := range []bool{false, true} {
		step := int64(1)
		if forever {
			step = 4 // they end much alike
		}
		for target := int64(0); ; target += step {
			var count atomic.Int64
			mem := vfs.NewCrashableMem()
			fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
					return nil
				}
				if n := count.Add(1) - 1; n == target || (forever && n > target) {
					return errorfs.ErrInjected
				}
				return nil
			}))
			var told atomic.Int32
			err := s.run(fs, state.Options{CacheBytes: 1 << 20, MemTableBytes: 256 << 10,
				Fatal: func(error) { told.Add(1) }}, nil)
			if errors.Is(err, errWrong) {
				t.Fatalf("write %d forever %v: %v", target, forever, err)
			}
			if told.Load() > 1 {
				t.Fatalf("write %d forever %v: Fatal was told %d times", target, forever, told.Load())
			}
			fatal += int(told.Load())
			if err != nil {
				failures++
			}
			if err := s.recover(mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))}), 0); err != nil {
				t.Fatalf("write %d forever %v: afterwards: %v", target, forever, err)
			}
			if count.Load() <= target {
				break
			}
		}
	}
	if failures < 50 || fatal == 0 {
		t.Errorf("%d failures, %d fatal: the injection is not in the path", failures, fatal)
	}
	t.Logf("%d runs failed, %d of them told Fatal", failures, fatal)
}
