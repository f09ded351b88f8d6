package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Records of many callers at once are all there, each once, in one chain, in the
// file and in a copy.
func TestConcurrentAppends(t *testing.T) {
	dir := t.TempDir()
	var copied bytes.Buffer
	o := Options{Path: filepath.Join(dir, "audit.log"), Node: "n1", Cluster: "c1", Hash: testHasher, MaxSize: 200_000, Queue: 16,
		Sinks: []Sink{{Name: "copy", Writer: NewStream(&copied)}}}
	l := mustOpen(t, o)
	var wg sync.WaitGroup
	var want []string
	for g := range 64 {
		for i := range 30 {
			want = append(want, fmt.Sprintf("%d-%d", g, i))
		}
		wg.Go(func() {
			for i := range 30 {
				id := fmt.Sprintf("%d-%d", g, i)
				if err := l.Append(context.Background(), entry(id)); err != nil {
					t.Error(err)
				}
				if i == 10 && g%16 == 0 {
					if err := l.Rotate(context.Background()); err != nil {
						t.Error(err)
					}
				}
				_ = l.Status()
			}
		})
	}
	wg.Wait()
	head := l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := Files(nil, o.Path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Verify(context.Background(), VerifyOptions{Files: files, Anchors: []Head{head}, Whole: true})
	if err != nil || r.Last != head || len(files) < 5 {
		t.Fatalf("%v, %d files, %+v", err, len(files), r)
	}
	var got []string
	var text []byte
	for rec, err := range Query(context.Background(), nil, files, Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rec.RequestID)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, b...)
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
	if !bytes.Equal(text, copied.Bytes()) {
		t.Errorf("the copy has %d bytes, the files %d", copied.Len(), len(text))
	}
}

// A caller whose context ends before its record was taken leaves no record; the
// error says so.
func TestWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := newMemFS(1)
		l := mustOpen(t, testOptions(fsys))
		release := stall(fsys, "sync")
		first := goAppend(l, context.Background(), "first")
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		second := goAppend(l, ctx, "second")
		synctest.Wait()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "was not written") {
			t.Errorf("got %v", err)
		}
		close(release)
		if err := <-first; err != nil {
			t.Error(err)
		}
		mustAppend(t, l, 0, 1)
		if got, _ := ids(t, fsys, Filter{}); !slices.Equal(got, []string{"first", "r0"}) {
			t.Errorf("got %v", got)
		}
	})
}

// stall makes the named operation hang until the channel is closed.
func stall(fsys *memFS, op string) (release chan struct{}) {
	release = make(chan struct{})
	fsys.mu.Lock()
	defer fsys.mu.Unlock()
	fsys.fail = func(_ int, what string) error {
		if what == op {
			fsys.mu.Unlock() // the hook runs under the lock, which a hanging disk must not hold
			<-release
			fsys.mu.Lock()
		}
		return nil
	}
	return release
}

func goAppend(l *Log, ctx context.Context, id string) chan error {
	done := make(chan error, 1)
	go func() { done <- l.Append(ctx, entry(id)) }()
	return done
}

// A full queue holds callers back until there is room or their patience ends.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := newMemFS(1)
		o := testOptions(fsys)
		o.Queue = 3
		l := mustOpen(t, o)
		release := stall(fsys, "sync")
		var all []chan error
		for i := range 3 {
			all = append(all, goAppend(l, context.Background(), fmt.Sprint(i)))
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := l.Append(ctx, entry("impatient")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		patient := goAppend(l, context.Background(), "patient")
		synctest.Wait()
		close(release)
		for _, c := range append(all, patient) {
			if err := <-c; err != nil {
				t.Error(err)
			}
		}
	})
}

// A disk that hangs delays nobody beyond the deadline: not those who wait for it, nor
// those who come later. When it answers, the log goes on, and what was written
// late stays in the chain.
func TestHungDisk(t *testing.T) {
	for _, strict := range []Strictness{Required, BestEffort} {
		synctest.Test(t, func(t *testing.T) {
			fsys, ev := newMemFS(1), &events{}
			o := testOptions(fsys)
			o.Deadline, o.Strictness, o.Notify, o.Now = 3*time.Second, strict, ev.notify, time.Now
			l := mustOpen(t, o)
			release := stall(fsys, "sync")
			began := time.Now()
			first := goAppend(l, context.Background(), "first")
			synctest.Wait()
			queued := goAppend(l, context.Background(), "queued")
			check := func(what string, err error) {
				t.Helper()
				if strict == Required && !errors.Is(err, ErrHung) || strict == BestEffort && err != nil {
					t.Errorf("%v, %s: %v", strict, what, err)
				}
			}
			check("first", <-first)
			check("queued", <-queued)
			check("late", l.Append(context.Background(), entry("late")))
			if waited := time.Since(began); waited != 3*time.Second {
				t.Errorf("waited %v", waited)
			}
			if s := l.Status()[0]; s.State != StateHung || s.Dropped == 0 {
				t.Errorf("status %+v", s)
			}
			close(release)
			synctest.Wait()
			mustAppend(t, l, 0, 1)
			if s := l.Status()[0]; s.State != StateOK {
				t.Errorf("status %+v", s)
			}
			mustVerify(t, fsys, l.Head())
			if got, _ := ids(t, fsys, Filter{}); !slices.Equal(got, []string{"first", "r0"}) {
				t.Errorf("got %v", got)
			}
			if ev.count(EventFailed) != 1 {
				t.Errorf("events %+v", ev.all)
			}
		})
	}
}

// gate is a writer that takes what it is given when it is open, and fails on demand.
type gate struct {
	mu   sync.Mutex
	got  bytes.Buffer
	hold chan struct{} // nil: open
	err  error
}

func (g *gate) set(hold chan struct{}, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold, g.err = hold, err
}

func (g *gate) Write(_ context.Context, lines []byte) error {
	g.mu.Lock()
	hold := g.hold
	g.mu.Unlock()
	if hold != nil {
		<-hold // deaf to the context, like a system call
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return g.err
	}
	g.got.Write(lines)
	return nil
}

func (g *gate) Close() error { return nil }

func (g *gate) text() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.got.String()
}

// A required copy that fails, fails the request; one that hangs, fails it at its
// deadline and those after it at once, until it answers.
func TestRequiredSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys, g := newMemFS(1), &gate{}
		o := testOptions(fsys)
		o.Now = time.Now
		o.Sinks = []Sink{{Name: "tap", Deadline: time.Second, Writer: g}}
		l := mustOpen(t, o)
		mustAppend(t, l, 0, 1)
		if !strings.Contains(g.text(), `"request_id":"r0"`) {
			t.Error("Append returned before the sink had the record")
		}
		broken := errors.New("broken pipe")
		g.set(nil, broken)
		err := l.Append(context.Background(), entry("x"))
		var sink *SinkError
		if !errors.As(err, &sink) || sink.Sink != "tap" || !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		hold := make(chan struct{})
		g.set(hold, nil)
		for i, want := range []time.Duration{time.Second, 0, 0} {
			began := time.Now()
			if err := l.Append(context.Background(), entry("hung")); !errors.Is(err, ErrHung) || time.Since(began) != want {
				t.Errorf("append %d: %v after %v", i, err, time.Since(began))
			}
		}
		if s := l.Status()[1]; s.State != StateHung || s.Dropped != 3 || s.Failures != 2 {
			t.Errorf("status %+v", s)
		}
		g.set(nil, nil)
		close(hold)
		synctest.Wait()
		mustAppend(t, l, 1, 1)
		if s := l.Status()[1]; s.State != StateOK {
			t.Errorf("status %+v", s)
		}
		mustVerify(t, fsys, l.Head())
	})
}

// A best-effort copy that hangs or fails delays nobody and fails nothing: what it
// misses is counted and told once.
func TestBestEffortSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys, ev := newMemFS(1), &events{}
		hanging, failing := &gate{hold: make(chan struct{})}, &gate{err: errors.New("refused")}
		o := testOptions(fsys)
		o.Now, o.Notify = time.Now, ev.notify
		o.Sinks = []Sink{
			{Name: "hanging", Strictness: BestEffort, Buffer: 2000, Writer: hanging},
			{Name: "failing", Strictness: BestEffort, Writer: failing},
		}
		l := mustOpen(t, o)
		began := time.Now()
		mustAppend(t, l, 0, 20)
		if time.Since(began) != 0 {
			t.Errorf("delayed by %v", time.Since(began))
		}
		synctest.Wait()
		all := l.Status()
		if all[1].Dropped < 15 || all[1].Waiting < 2000 || all[2].Dropped != 20 || all[2].State != StateFailing {
			t.Errorf("status %+v", all)
		}
		if ev.count(EventDropping) != 1 || ev.count(EventFailed) != 1 {
			t.Errorf("events %+v", ev.all)
		}
		time.Sleep(3 * time.Second) // in the bubble: nobody waits
		if s := l.Status()[1]; s.State != StateHung {
			t.Errorf("status %+v", s)
		}
		failing.set(nil, nil)
		mustAppend(t, l, 20, 1)
		close(hanging.hold)
		synctest.Wait()
		if s := l.Status()[2]; s.State != StateOK || !strings.Contains(failing.text(), `"r20"`) {
			t.Errorf("status %+v", s)
		}
		mustVerify(t, fsys, l.Head())
	})
}

// While a best-effort file fails, a required copy gets nothing: the request fails for
// the copy's sake, never silently without any record.
func TestBestEffortFileBeforeRequiredCopy(t *testing.T) {
	fsys := newMemFS(1)
	o := testOptions(fsys)
	o.Strictness = BestEffort
	o.Sinks = []Sink{{Name: "tap", Writer: &gate{}}}
	l := mustOpen(t, o)
	fsys.mu.Lock()
	fsys.fail = func(int, string) error { return errPower }
	fsys.mu.Unlock()
	var sink *SinkError
	if err := l.Append(context.Background(), entry("x")); !errors.As(err, &sink) || sink.Sink != "tap" {
		t.Errorf("got %v", err)
	}
}

// Close writes what waits and does not wait for a sink that hangs.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys, g := newMemFS(1), &gate{hold: make(chan struct{})}
		o := testOptions(fsys)
		o.Sinks = []Sink{{Name: "tap", Strictness: BestEffort, Deadline: time.Second, Writer: g}}
		l := mustOpen(t, o)
		mustAppend(t, l, 0, 5)
		began := time.Now()
		var sink *SinkError
		if err := l.Close(); !errors.As(err, &sink) || sink.Sink != "tap" {
			t.Errorf("got %v", err)
		}
		if time.Since(began) != time.Second {
			t.Errorf("took %v", time.Since(began))
		}
		if err := l.Append(context.Background(), entry("x")); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
		if err := l.Rotate(context.Background()); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
		if got, _ := ids(t, fsys, Filter{}); len(got) != 5 {
			t.Errorf("got %v", got)
		}
		close(g.hold)
	})
}

// Only callers' types are appended: nobody writes a header or a recovery from above.
func TestAppendType(t *testing.T) {
	l := mustOpen(t, testOptions(newMemFS(1)))
	for _, typ := range []Type{"", typeHeader, typeCut, typeRecovery} {
		if err := l.Append(context.Background(), &Entry{Type: typ}); err == nil {
			t.Errorf("type %q was taken", typ)
		}
	}
}

// Options that would make a log without a file, a name or a hash are refused.
func TestOptions(t *testing.T) {
	good := testOptions(newMemFS(1))
	for name, spoil := range map[string]func(*Options){
		"path": func(o *Options) { o.Path = "" }, "node": func(o *Options) { o.Node = "" },
		"cluster": func(o *Options) { o.Cluster = "" }, "hash": func(o *Options) { o.Hash = nil },
		"sink without writer": func(o *Options) { o.Sinks = []Sink{{Name: "a"}} },
		"sink named file":     func(o *Options) { o.Sinks = []Sink{{Name: "file", Writer: &gate{}}} },
		"two of one name":     func(o *Options) { o.Sinks = []Sink{{Name: "a", Writer: &gate{}}, {Name: "a", Writer: &gate{}}} },
	} {
		o := good
		spoil(&o)
		if _, err := Open(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// BenchmarkAppend is what a request pays, on the disk behind the temporary directory.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 32, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			l := mustOpen(b, Options{Path: filepath.Join(b.TempDir(), "audit.log"), Node: "n", Cluster: "c", Hash: testHasher})
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for g := range callers {
				wg.Go(func() {
					e := entry("r1")
					for range (b.N + callers - 1 - g) / callers {
						if err := l.Append(context.Background(), e); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
		})
	}
}
