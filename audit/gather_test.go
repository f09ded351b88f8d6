package audit

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// slowFS takes a while for each fsync of a file.
type slowFS struct {
	*memFS
	d time.Duration
}

type slowFile struct {
	File
	d time.Duration
}

func (s slowFS) Open(name string, mode Mode) (File, error) {
	f, err := s.memFS.Open(name, mode)
	return slowFile{f, s.d}, err
}

func (s slowFile) Sync() error {
	time.Sleep(s.d)
	return s.File.Sync()
}

// groups counts the groups in a log: the first record of each says that what is
// before it is synced.
func groups(t *testing.T, fsys *memFS) int {
	t.Helper()
	return strings.Count(string(fsys.bytes(testPath)), lineSynced)
}

const syncTime = 200 * time.Microsecond

func gatheringLog(t *testing.T) (*Log, *memFS) {
	fsys := newMemFS(1)
	o := testOptions(slowFS{fsys, syncTime})
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 0, 1) // a group right before: the log knows what one costs
	return l, fsys
}

// Requests that are under way share a group, and nobody waits once all are there.
func TestGatherWaitsForThoseUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, fsys := gatheringLog(t)
		before := groups(t, fsys)
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 10 {
			l.Enter()
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Microsecond) // what each does first
				mustAppend(t, l, i, 1)
				l.Leave()
			})
		}
		wg.Wait()
		if got := groups(t, fsys) - before; got != 1 {
			t.Errorf("10 records in %d groups", got)
		}
		if took, want := time.Since(began), 900*time.Microsecond+syncTime; took != want {
			t.Errorf("it took %v, want %v", took, want)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// One that is under way and does not come is waited for as long as it pays.
func TestGatherIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := gatheringLog(t)
		l.Enter()
		l.Enter() // never comes
		began := time.Now()
		mustAppend(t, l, 0, 1)
		if took, want := time.Since(began), restFor*syncTime+syncTime; took != want {
			t.Errorf("it took %v, want %v", took, want)
		}
		time.Sleep(time.Second)
		began = time.Now()
		mustAppend(t, l, 1, 1)
		if took := time.Since(began); took != syncTime {
			t.Errorf("after a rest it took %v, want %v", took, syncTime)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Who is alone waits for nobody, however often.
func TestGatherAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := gatheringLog(t)
		began := time.Now()
		for i := range 20 {
			l.Enter()
			mustAppend(t, l, i, 1)
			l.Leave()
		}
		if took, want := time.Since(began), 20*syncTime; took != want {
			t.Errorf("20 records took %v, want %v", took, want)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A caller who leaves while the log gathers is told that nothing was written, and
// closing does not wait for those under way.
func TestGatherAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, fsys := gatheringLog(t)
		l.Enter()
		l.Enter()
		before := groups(t, fsys)
		ctx, cancel := context.WithTimeout(context.Background(), restFor*syncTime/2)
		defer cancel()
		if err := l.Append(ctx, entry("gone")); err == nil || !strings.Contains(err.Error(), "not written") {
			t.Errorf("got %v", err)
		}
		done := make(chan error, 1)
		go func() { done <- l.Append(context.Background(), entry("kept")) }()
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		log := string(fsys.bytes(testPath))
		if strings.Contains(log, `"gone"`) || !strings.Contains(log, `"kept"`) || groups(t, fsys)-before != 1 {
			t.Errorf("%d groups\n%s", groups(t, fsys)-before, log)
		}
	})
}
