package storagetest

import (
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// A Disk is where one store lives, through restarts and power cuts.
type Disk[S any] struct {
	// Open opens the store that is on the disk, or a new one. It fails the test
	// where that is impossible. The store of the life before was closed, if it can
	// be closed.
	Open func(t *testing.T) S
	// Crash returns the disk as a power cut would leave it now: all that was
	// synced, and of the other bytes about unsynced percent, where it can tell them
	// apart. The store that is open stays on the old disk, which the test closes
	// and forgets. Nil: such a disk cannot lose its power.
	Crash func(t *testing.T, unsynced int) Disk[S]
	// Names lists the files of the store. Nil: it has none.
	Names func(t *testing.T) []string
}

// Disks returns the two kinds of disk that a store over the seam of storage/vfs
// lives on, by their names: "memory", which can lose its power, and "directory",
// on the file system of the machine, which cannot. open opens the store in dir.
func Disks[S any](open func(t *testing.T, fs vfs.FS, dir string) S) map[string]func(*testing.T) Disk[S] {
	return map[string]func(*testing.T) Disk[S]{
		"memory": func(*testing.T) Disk[S] { return memoryDisk(vfs.NewCrashableMem(), open) },
		"directory": func(t *testing.T) Disk[S] {
			dir := vfs.Default.PathJoin(t.TempDir(), "data", "store")
			return diskOn(vfs.Default, dir, open)
		},
	}
}

func diskOn[S any](fs vfs.FS, dir string, open func(*testing.T, vfs.FS, string) S) Disk[S] {
	return Disk[S]{
		Open: func(t *testing.T) S { return open(t, fs, dir) },
		Names: func(t *testing.T) []string {
			names, err := fs.List(dir)
			if err != nil {
				t.Fatal(err)
			}
			return names
		},
	}
}

func memoryDisk[S any](mem *vfs.MemFS, open func(*testing.T, vfs.FS, string) S) Disk[S] {
	d := diskOn(mem, "data/store", open)
	dice := rand.New(rand.NewPCG(5, 9))
	d.Crash = func(_ *testing.T, unsynced int) Disk[S] {
		return memoryDisk(mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: dice}), open)
	}
	return d
}

// life is a store that is open on its disk.
type life[S any] struct {
	*testing.T
	disk  Disk[S]
	store S
}

func begin[S any](t *testing.T, disk Disk[S]) *life[S] { return &life[S]{t, disk, disk.Open(t)} }

// end closes the store, if it can be closed.
func (l *life[S]) end() {
	l.Helper()
	if c, ok := any(l.store).(io.Closer); ok {
		if err := c.Close(); err != nil {
			l.Fatalf("closing: %v", err)
		}
	}
}

// restart closes the store and opens it again.
func (l *life[S]) restart() {
	l.Helper()
	l.end()
	l.store = l.disk.Open(l.T)
}

// crash pulls the plug and opens the store on what is left. On a disk that cannot
// lose its power it is a restart.
func (l *life[S]) crash(unsynced int) {
	l.Helper()
	if l.disk.Crash == nil {
		l.restart()
		return
	}
	next := l.disk.Crash(l.T, unsynced)
	l.end()
	l.disk = next
	l.store = next.Open(l.T)
}

// after returns a second life on what a power cut would leave now; the first goes
// on. It is nil where the disk cannot lose its power.
func (l *life[S]) after(unsynced int) *life[S] {
	l.Helper()
	if l.disk.Crash == nil {
		return nil
	}
	return begin(l.T, l.disk.Crash(l.T, unsynced))
}

func (l *life[S]) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

// parts runs each test on a disk of its own.
func parts[S any](t *testing.T, disk func(*testing.T) Disk[S], tests []part[S]) {
	for _, p := range tests {
		t.Run(p.name, func(t *testing.T) {
			l := begin(t, disk(t))
			p.test(l)
			l.end()
		})
	}
}

type part[S any] struct {
	name string
	test func(*life[S])
}

// beside lets two readers look again and again while write is called again and
// again, until there was enough of both. A look tells what is wrong, or "".
func beside(t *testing.T, look func(n uint64) string, write func()) {
	t.Helper()
	const writes, looks = 30, 300
	var looked atomic.Int64
	stop := make(chan struct{})
	var readers sync.WaitGroup
	defer func() {
		close(stop)
		readers.Wait()
	}()
	for r := range uint64(2) {
		readers.Go(func() {
			for n := r; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if wrong := look(n); wrong != "" {
					t.Errorf("beside a writer: %s", wrong)
					return
				}
				looked.Add(1)
			}
		})
	}
	for n := 0; (n < writes || looked.Load() < looks) && !t.Failed(); n++ {
		write()
	}
}
