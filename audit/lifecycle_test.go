package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// reopen closes a log and opens its path again.
func reopen(t *testing.T, l *Log, o Options) *Log {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, o)
}

// The chain goes on over restarts, in the same file.
func TestRestart(t *testing.T) {
	fsys := newMemFS(1)
	o := testOptions(fsys)
	l := mustOpen(t, o)
	mustAppend(t, l, 0, 3)
	head := l.Head()
	o.Anchor = head
	l = reopen(t, l, o)
	if l.Head() != head {
		t.Errorf("head %v, want %v", l.Head(), head)
	}
	mustAppend(t, l, 3, 3)
	if r := mustVerify(t, fsys, head, l.Head()); r.Files != 1 || r.Records != 7 || len(r.Cuts) != 0 {
		t.Errorf("report %+v", r)
	}
}

// A torn end is cut off at the next start, and a record says what was cut.
func TestTornEnd(t *testing.T) {
	for _, end := range []string{`{"seq":5,"prev":"`, "\x00\x00\x00\x00", "\x00\x00\n", `{}` + "\n", "\n"} {
		fsys, ev := newMemFS(1), &events{}
		o := testOptions(fsys)
		o.Notify = ev.notify
		l := mustOpen(t, o)
		mustAppend(t, l, 0, 3)
		head := l.Head()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		fsys.put(testPath, append(fsys.bytes(testPath), end...))
		l = mustOpen(t, o)
		mustAppend(t, l, 3, 1)
		r := mustVerify(t, fsys, head)
		if len(r.Cuts) != 1 || r.Cuts[0].Bytes != int64(len(end)) || r.Cuts[0].Seq != head.Seq+1 || ev.count(EventCut) != 1 {
			t.Errorf("%q: %+v, %+v", end, r.Cuts, ev.all)
		}
	}
}

// What no crash explains is moved aside untouched at the next start, the log goes on
// in a file that names the break, and Verify reports both. The number of a record is never given
// twice, where anything is left to tell.
func TestBreakAtStart(t *testing.T) {
	whole, _ := sample(t, 12, 1<<20)
	text := whole.bytes(testPath)
	theirs := testOptions(newMemFS(1))
	theirs.Node = "n2"
	mustAppend(t, mustOpen(t, theirs), 0, 3)
	flip := func(at int) []byte {
		b := bytes.Clone(text)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		text   []byte
		anchor Head
		kind   FaultKind // the first fault
		next   uint64    // the number of the new header
	}{
		"edited in the middle":   {text: flip(len(text) / 2), kind: FaultEdited, next: 14},
		"edited header":          {text: flip(100), kind: FaultEdited, next: 14},
		"garbage":                {text: []byte("hello\nworld\n"), kind: FaultUnreadable, next: 1},
		"cut behind an anchor":   {text: text[:len(text)/2], anchor: Head{13, Hash{1}}, kind: FaultTorn, next: 14},
		"another record":         {text: text, anchor: Head{13, Hash{1}}, kind: FaultBreak, next: 14},
		"gone":                   {anchor: Head{13, Hash{1}}, kind: FaultBreak, next: 14},
		"lines removed":          {text: append(bytes.Clone(text[:nth(text, 3)]), text[nth(text, 5):]...), kind: FaultPlace, next: 14},
		"another node's":         {text: theirs.FS.(*memFS).bytes(testPath), kind: FaultForeign, next: 5},
		"a directory of nothing": {text: nil, kind: "", next: 1},
	} {
		t.Run(name, func(t *testing.T) {
			fsys, ev := newMemFS(1), &events{}
			o := testOptions(fsys)
			o.Notify, o.Anchor = ev.notify, c.anchor
			if c.text != nil {
				fsys.put(testPath, c.text)
			}
			l := mustOpen(t, o)
			if got := l.Head().Seq; got != c.next {
				t.Errorf("the new file begins with record %d, want %d", got, c.next)
			}
			mustAppend(t, l, 0, 1)
			r, err := Verify(context.Background(), VerifyOptions{FS: fsys, Files: mustFiles(t, fsys)})
			if c.kind == "" {
				if err != nil || ev.count(EventTampered) != 0 {
					t.Errorf("%v, %v", err, ev.all)
				}
				return
			}
			var breaks int
			for _, f := range r.Faults {
				if f.Kind == FaultBreak {
					breaks++
				}
			}
			if fault := new(Fault); !errors.As(err, &fault) || fault.Kind != c.kind || breaks != 1 || ev.count(EventTampered) != 1 {
				t.Errorf("%v, %d breaks, %v", err, breaks, ev.all)
			}
			if c.text != nil {
				kept := mustFiles(t, fsys)[0]
				if kept == testPath || !bytes.Equal(fsys.bytes(kept), c.text) {
					t.Errorf("the damaged file is not kept as it was: %v", mustFiles(t, fsys))
				}
			}
			// The next start finds a log in order, and makes no second break.
			o.Anchor = l.Head()
			l = reopen(t, l, o)
			mustAppend(t, l, 1, 1)
			if ev.count(EventTampered) != 1 {
				t.Errorf("events %v", ev.all)
			}
		})
	}
}

// nth returns where line n, from 0, begins.
func nth(text []byte, n int) (at int) {
	for range n {
		at += bytes.IndexByte(text[at:], '\n') + 1
	}
	return at
}

// A start reads a bounded part of a large file, and still finds damage at its end.
func TestStartOfLargeFile(t *testing.T) {
	fsys := newMemFS(1)
	o := testOptions(fsys)
	l := mustOpen(t, o)
	mustAppend(t, l, 0, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	text, head := fsys.bytes(testPath), l.Head()
	body := entry("x").body(nil, "n1", testTime, testHasher)
	for len(text) < 3*tailWindow {
		text, head = seal(text, head, true, body)
	}
	fsys.put(testPath, append(bytes.Clone(text), "torn"...))
	l = mustOpen(t, o)
	if l.Head().Seq != head.Seq+1 {
		t.Errorf("head %d, want %d", l.Head().Seq, head.Seq+1)
	}
	mustVerify(t, fsys, head)
	text[len(text)-5000] ^= 1
	fsys.put(testPath, text)
	ev := &events{}
	o.Notify = ev.notify
	mustOpen(t, o)
	if ev.count(EventTampered) != 1 {
		t.Error("damage near the end of a large file was not found")
	}
}

// Files rotate by size and age; the chain goes on across them; the rules of
// retention remove the oldest, and the log says so, so that Verify can tell them from
// files that somebody took.
func TestRotation(t *testing.T) {
	fsys, c := newMemFS(1), newClock()
	o := testOptions(fsys)
	o.Now, o.MaxSize, o.Keep = c.now, 3000, 3
	l := mustOpen(t, o)
	mustAppend(t, l, 0, 60)
	files := mustFiles(t, fsys)
	if len(files) != 4 {
		t.Errorf("files %v", files)
	}
	for _, name := range files {
		if n := len(fsys.bytes(name)); n > 3000 {
			t.Errorf("%s has %d bytes", name, n)
		}
	}
	r := mustVerify(t, fsys, l.Head())
	if r.First == 1 || r.Oldest != r.First {
		t.Errorf("report %+v", r)
	}
	if err := fsys.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	_, err := verify(t, fsys)
	if fault := new(Fault); !errors.As(err, &fault) || fault.Kind != FaultStart || fault.Seq != r.First {
		t.Errorf("got %v", err)
	}
	o.MaxSize, o.MaxAge, o.Keep, o.KeepDays = 1<<20, 24*time.Hour, 0, 3
	l = reopen(t, l, o)
	for day := range 10 {
		c.advance(25 * time.Hour)
		mustAppend(t, l, 100+day, 1)
	}
	if files := mustFiles(t, fsys); len(files) < 4 || len(files) > 5 {
		t.Errorf("files %v", files)
	}
	mustVerify(t, fsys, l.Head())
}

// Files that are not this log's are never removed.
func TestRetentionLeavesOthers(t *testing.T) {
	fsys := newMemFS(1)
	others := map[string][]byte{testPath + ".1": []byte("notes\n"), testPath + ".gz": []byte("z"), "d/other": []byte("o")}
	for name, b := range others {
		fsys.put(name, b)
	}
	o := testOptions(fsys)
	o.MaxSize, o.Keep = 2000, 1
	fsys.put(testPath+".2", nil)
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 0, 20)
	for name, b := range others {
		if !bytes.Equal(fsys.bytes(name), b) {
			t.Errorf("%s is gone", name)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// logrotate renames the file and sends SIGHUP, with "create" or without: no record
// is lost and the chain is whole. Without a rename, Reopen does nothing.
func TestLogrotate(t *testing.T) {
	for _, create := range []bool{false, true} {
		fsys := newMemFS(1)
		l := mustOpen(t, testOptions(fsys))
		mustAppend(t, l, 0, 2)
		if err := l.Reopen(context.Background()); err != nil || len(mustFiles(t, fsys)) != 1 {
			t.Errorf("%v, %v", err, mustFiles(t, fsys))
		}
		if err := fsys.Rename(testPath, testPath+".1"); err != nil {
			t.Fatal(err)
		}
		if create {
			fsys.put(testPath, nil)
		}
		mustAppend(t, l, 2, 2) // into the renamed file
		if err := l.Reopen(context.Background()); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, 4, 2)
		mustVerify(t, fsys, l.Head())
		got, _ := ids(t, fsys, Filter{})
		if files := mustFiles(t, fsys); len(files) != 2 || len(got) != 6 {
			t.Errorf("files %v, records %v", files, got)
		}
	}
}

// A crash between logrotate's rename and its signal loses nothing either.
func TestLogrotateCrash(t *testing.T) {
	for _, create := range []bool{false, true} {
		fsys := newMemFS(1)
		o := testOptions(fsys)
		l := mustOpen(t, o)
		mustAppend(t, l, 0, 3)
		head := l.Head()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		fsys.put(testPath+".1", append(fsys.bytes(testPath), "torn"...))
		if fsys.put(testPath, nil); !create {
			if err := fsys.Remove(testPath); err != nil {
				t.Fatal(err)
			}
		}
		l = mustOpen(t, o)
		mustAppend(t, l, 3, 1)
		if r := mustVerify(t, fsys, head); len(r.Cuts) != 1 || r.Files != 2 {
			t.Errorf("report %+v", r)
		}
	}
}

// A file that is deleted under a running log comes back: the descriptor still has it.
func TestDeletedFile(t *testing.T) {
	dir := t.TempDir()
	ev := &events{}
	o := testOptions(nil)
	o.Path, o.Notify = filepath.Join(dir, "audit.log"), ev.notify
	l := mustOpen(t, o)
	mustAppend(t, l, 0, 3)
	head := l.Head()
	if err := os.Remove(o.Path); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 3, 2)
	files, err := Files(nil, o.Path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Verify(context.Background(), VerifyOptions{Files: files, Anchors: []Head{head, l.Head()}, Whole: true})
	if err != nil || len(files) != 2 || len(r.Recoveries) != 1 || !strings.Contains(r.Recoveries[0].Why, "deleted") {
		t.Errorf("%v, %v, %+v", err, files, r)
	}
	if ev.count(EventTampered) != 1 {
		t.Errorf("events %v", ev.all)
	}
}

// A file that is truncated or appended to under a running log (copytruncate, an
// editor) is left as evidence, and the log goes on in another.
func TestChangedUnderneath(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"emptied":  func(p string) error { return os.Truncate(p, 0) },
		"cut":      func(p string) error { return os.Truncate(p, 1500) },
		"appended": func(p string) error { return appendTo(p, "x") },
	} {
		dir := t.TempDir()
		ev := &events{}
		o := testOptions(nil)
		o.Path, o.Notify = filepath.Join(dir, "audit.log"), ev.notify
		l := mustOpen(t, o)
		mustAppend(t, l, 0, 3)
		if err := change(o.Path); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, 3, 2)
		files, err := Files(nil, o.Path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Verify(context.Background(), VerifyOptions{Files: files, Anchors: []Head{l.Head()}})
		if fault := new(Fault); !errors.As(err, &fault) || ev.count(EventTampered) != 1 {
			t.Errorf("%s: %v, %v", name, err, ev.all)
		}
		var got []string
		for r, err := range Query(context.Background(), nil, files, Filter{}) {
			if err == nil {
				got = append(got, r.RequestID)
			}
		}
		if !slices.Contains(got, "r3") || !slices.Contains(got, "r4") {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// A directory that refuses new files stops rotation, not requests; one that refuses
// at the start stops the start, with an error that says why.
func TestPermissionLost(t *testing.T) {
	fsys, c, ev := newMemFS(1), newClock(), &events{}
	o := testOptions(fsys)
	o.Now, o.Notify, o.MaxSize = c.now, ev.notify, 2500
	l := mustOpen(t, o)
	deny := func(_ int, op string) error {
		if op == "rename" {
			return fs.ErrPermission
		}
		return nil
	}
	fsys.mu.Lock()
	fsys.fail = deny
	fsys.mu.Unlock()
	mustAppend(t, l, 0, 10)
	if ev.count(EventRotationFailed) == 0 || len(mustFiles(t, fsys)) != 1 {
		t.Errorf("events %v, files %v", ev.all, mustFiles(t, fsys))
	}
	fsys.mu.Lock()
	fsys.fail = nil
	fsys.mu.Unlock()
	c.advance(time.Minute)
	mustAppend(t, l, 10, 1)
	if len(mustFiles(t, fsys)) != 2 {
		t.Errorf("files %v", mustFiles(t, fsys))
	}
	mustVerify(t, fsys, l.Head())
	empty := newMemFS(1)
	empty.fail = deny
	o.FS = empty
	if _, err := Open(o); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v", err)
	}
}

// The format is pinned: a log of format 1 written once is read for ever.
func TestMuseum(t *testing.T) {
	path := filepath.Join("testdata", "format1.log")
	if os.Getenv("AUDIT_MUSEUM") == "new" {
		fsys := newMemFS(1)
		l := mustOpen(t, testOptions(fsys))
		mustAppend(t, l, 0, 2)
		if err := os.WriteFile(path, fsys.bytes(testPath), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Verify(context.Background(), VerifyOptions{Files: []string{path}, Whole: true})
	if err != nil || r.Records != 3 || r.Node != "n1" {
		t.Fatalf("%v, %+v", err, r)
	}
	piece, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fsys := newMemFS(1)
	l := mustOpen(t, testOptions(fsys))
	mustAppend(t, l, 0, 2)
	if got := fsys.bytes(testPath); !bytes.Equal(got, piece) {
		t.Errorf("format 1 is written differently now:\n%s\nwas\n%s", got, piece)
	}
	var found []string
	for r, err := range Query(context.Background(), nil, []string{path}, Filter{Who: "userpass-*"}) {
		found = append(found, fmt.Sprint(r.RequestID, err))
	}
	if want := []string{"r0<nil>", "r1<nil>"}; !slices.Equal(found, want) {
		t.Errorf("got %v", found)
	}
}
