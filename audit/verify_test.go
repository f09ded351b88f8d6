package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// sample makes a log of several files and returns it with the anchors taken on the
// way.
func sample(t testing.TB, n int, maxSize int64) (fsys *memFS, anchors []Head) {
	t.Helper()
	fsys = newMemFS(7)
	o := testOptions(fsys)
	o.MaxSize = maxSize
	l := mustOpen(t, o)
	for i := range n {
		mustAppend(t, l, i, 1)
		if i%5 == 4 || i == n-1 {
			anchors = append(anchors, l.Head())
		}
	}
	return fsys, anchors
}

// lineAt is a line of a log taken apart.
type lineAt struct {
	file string
	text string // without its end
}

func lines(t testing.TB, fsys *memFS) (all []lineAt) {
	for _, file := range mustFiles(t, fsys) {
		for line := range strings.Lines(string(fsys.bytes(file))) {
			all = append(all, lineAt{file, strings.TrimSuffix(line, "\n")})
		}
	}
	return all
}

// rebuilt returns a file system with the lines in their files.
func rebuilt(files []string, all []lineAt) *memFS {
	fsys := newMemFS(1)
	for _, file := range files {
		var b strings.Builder
		for _, l := range all {
			if l.file == file {
				b.WriteString(l.text + "\n")
			}
		}
		fsys.put(file, []byte(b.String()))
	}
	return fsys
}

// An untouched log has no fault, with its anchors and without, whole or live.
func TestVerifyUntouched(t *testing.T) {
	fsys, anchors := sample(t, 40, 4000)
	r := mustVerify(t, fsys, anchors...)
	if r.Files < 5 || r.First != 1 || r.Last != anchors[len(anchors)-1] || r.Node != "n1" || r.Cluster != "c1" || r.Records != r.Last.Seq {
		t.Errorf("report %+v", r)
	}
	mustVerify(t, fsys)
	files := mustFiles(t, fsys)
	rand.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
	if _, err := Verify(context.Background(), VerifyOptions{FS: fsys, Files: files, Anchors: anchors}); err != nil {
		t.Errorf("files in another order: %v", err)
	}
}

// Any single change to a log is found and the first bad record named: an edited
// byte, a line removed, inserted, repeated or swapped, an end cut off, at any place,
// in thousands of random logs.
func TestVerifyFindsAnyChange(t *testing.T) {
	seeds := uint64(6000)
	if testing.Short() {
		seeds = 500
	}
	type built struct {
		fsys    *memFS
		anchors []Head
	}
	var samples []built
	for i := range 12 {
		fsys, anchors := sample(t, 3+i*3, int64(2500+700*i))
		samples = append(samples, built{fsys, anchors})
	}
	kinds := map[string]int{}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 9))
		s := samples[rng.IntN(len(samples))]
		files, all := mustFiles(t, s.fsys), lines(t, s.fsys)
		kind, want, changed := tamper(rng, files, all)
		_, err := Verify(context.Background(), VerifyOptions{FS: changed, Files: mustFiles(t, changed), Anchors: s.anchors, Whole: true})
		if kind == forged && !slices.ContainsFunc(s.anchors, func(a Head) bool { return a.Seq == want }) {
			want++ // only the record behind it can tell
		}
		var fault *Fault
		if !errors.As(err, &fault) {
			t.Fatalf("seed %d, %s at record %d: got %v", seed, kind, want, err)
		}
		if fault.Seq != want {
			t.Fatalf("seed %d: %s at record %d: got %v\n", seed, kind, want, fault)
		}
		kinds[kind]++
	}
	t.Log(kinds)
	if len(kinds) < 9 {
		t.Errorf("only %v were tried", kinds)
	}
}

// tamper changes one thing and returns the number of the first record that is not
// where and what it was.
func tamper(rng *rand.Rand, files []string, all []lineAt) (kind string, seq uint64, fsys *memFS) {
	i := rng.IntN(len(all))
	seq = uint64(i) + 1
	switch rng.IntN(9) {
	case 0:
		kind = "edited byte"
		b := []byte(all[i].text)
		at := rng.IntN(len(b))
		old := b[at]
		for b[at] == old || b[at] == '\n' {
			b[at] = byte(rng.IntN(256))
		}
		all[i].text = string(b)
	case 1:
		kind = "inserted byte"
		at := rng.IntN(len(all[i].text) + 1)
		all[i].text = all[i].text[:at] + string(rune('!'+rng.IntN(90))) + all[i].text[at:]
	case 2:
		kind = "removed byte"
		at := rng.IntN(len(all[i].text))
		all[i].text = all[i].text[:at] + all[i].text[at+1:]
	case 3:
		kind = forged
		all[i].text = forge(all[i].text)
	case 4:
		kind = "removed lines"
		n := 1 + rng.IntN(min(3, len(all)-i))
		all = slices.Delete(all, i, i+n)
	case 5:
		kind = "repeated line"
		j := rng.IntN(len(all))
		all = slices.Insert(all, i, lineAt{all[i].file, all[j].text})
		if i == j {
			seq++ // the first of the two is the right one
		}
	case 6:
		kind = "inserted garbage"
		all = slices.Insert(all, i, lineAt{all[i].file, fmt.Sprintf(`{"seq":%d,"x":%d}`, i, rng.Uint32())})
	case 7:
		kind = "swapped lines"
		j := rng.IntN(len(all))
		for j == i {
			j = rng.IntN(len(all))
		}
		all[i].text, all[j].text = all[j].text, all[i].text
		seq = uint64(min(i, j)) + 1
	case 8:
		kind = "cut off within a line"
		fsys = rebuilt(files, all[:i])
		cut := all[i].text[:rng.IntN(len(all[i].text)+1)]
		fsys.put(all[i].file, append(fsys.bytes(all[i].file), cut...))
		if i == 0 {
			seq = 0 // no record is left to say which
		}
		return kind, seq, fsys
	}
	return kind, seq, rebuilt(files, all)
}

const forged = "edited and hashed anew"

// forge changes a record and gives it the right hash.
func forge(text string) string {
	l, err := parse([]byte(text))
	if err != nil {
		panic(err)
	}
	body := bytes.Replace(l.body, []byte("2026"), []byte("2027"), 1)
	line, _ := seal(nil, Head{l.head.Seq - 1, l.prev}, l.synced, body)
	return strings.TrimSuffix(string(line), "\n")
}

// A forged record that is anchored, or the last one, is named itself.
func TestVerifyForgedAtAnchor(t *testing.T) {
	fsys, anchors := sample(t, 20, 1<<20)
	all := lines(t, fsys)
	i := int(anchors[1].Seq) - 1
	all[i].text = forge(all[i].text)
	_, err := verify(t, rebuilt(mustFiles(t, fsys), all), anchors...)
	var fault *Fault
	if !errors.As(err, &fault) || fault.Kind != FaultAnchor || fault.Seq != anchors[1].Seq {
		t.Errorf("got %v", err)
	}
}

// Whoever writes the log anew from some record on is found by the first anchor behind it,
// and by nothing else.
func TestVerifyRewritten(t *testing.T) {
	fsys, anchors := sample(t, 20, 1<<20)
	all := lines(t, fsys)
	head := Head{}
	for i := range all {
		l, _ := parse([]byte(all[i].text))
		body := l.body
		if i == 9 {
			body = bytes.Replace(body, []byte("userpass-ada"), []byte("userpass-eve"), 1)
		}
		var line []byte
		line, head = seal(nil, head, l.synced, body)
		all[i].text = strings.TrimSuffix(string(line), "\n")
	}
	changed := rebuilt(mustFiles(t, fsys), all)
	if _, err := verify(t, changed); err != nil {
		t.Errorf("without anchors a rewritten log is in order, got %v", err)
	}
	var next Head
	for _, a := range anchors {
		if a.Seq >= 10 {
			next = a
			break
		}
	}
	_, err := verify(t, changed, anchors...)
	var fault *Fault
	if !errors.As(err, &fault) || fault.Kind != FaultAnchor || fault.Seq != next.Seq {
		t.Errorf("got %v, want an anchor fault at %d", err, next.Seq)
	}
}

// A missing file shows, whichever it is: the first by the log's own account of what
// it keeps, the last by an anchor.
func TestVerifyMissingFile(t *testing.T) {
	fsys, anchors := sample(t, 40, 4000)
	files := mustFiles(t, fsys)
	for i := range files {
		b, err := look(fsys, files[i])
		if err != nil {
			t.Fatal(err)
		}
		rest := slices.Delete(slices.Clone(files), i, i+1)
		_, err = Verify(context.Background(), VerifyOptions{FS: fsys, Files: rest, Anchors: anchors, Whole: true})
		var fault *Fault
		if !errors.As(err, &fault) || fault.Seq != b.start {
			t.Errorf("without %s, which begins with record %d: %v", files[i], b.start, err)
		}
	}
	r, err := Verify(context.Background(), VerifyOptions{FS: fsys, Files: files[3:4], Anchors: anchors})
	if fault := new(Fault); !errors.As(err, &fault) || fault.Kind != FaultTruncated || r.Before == 0 {
		t.Errorf("one file against later anchors: %v, %+v", err, r)
	}
	if _, err := Verify(context.Background(), VerifyOptions{FS: fsys, Files: files[3:4]}); err != nil {
		t.Errorf("one file by itself: %v", err)
	}
}

// A line that is being written is no fault of a live log's last file, and one of any other.
func TestVerifyLive(t *testing.T) {
	fsys, anchors := sample(t, 40, 4000)
	files := mustFiles(t, fsys)
	half := []byte(`{"seq":99,"prev":"`)
	last := files[len(files)-1]
	fsys.put(last, append(fsys.bytes(last), half...))
	o := VerifyOptions{FS: fsys, Files: files, Anchors: anchors, Live: true}
	if _, err := Verify(context.Background(), o); err != nil {
		t.Error(err)
	}
	fsys.put(files[0], append(fsys.bytes(files[0]), half...))
	_, err := Verify(context.Background(), o)
	if fault := new(Fault); !errors.As(err, &fault) || fault.Kind != FaultTorn || fault.File != files[0] {
		t.Errorf("got %v", err)
	}
}

// Files of two nodes are no log.
func TestVerifyForeign(t *testing.T) {
	fsys, _ := sample(t, 5, 1<<20)
	o := testOptions(fsys)
	o.Path, o.Node = "d/other.log", "n2"
	mustAppend(t, mustOpen(t, o), 0, 2)
	r, err := Verify(context.Background(), VerifyOptions{FS: fsys, Files: []string{testPath, "d/other.log"}})
	if err == nil || !slices.ContainsFunc(r.Faults, func(f *Fault) bool { return f.Kind == FaultForeign }) {
		t.Errorf("got %v, %v", err, r.Faults)
	}
}

// Verify needs memory for a line, not for a log, and reads at the speed of a disk.
func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	l := mustOpen(b, Options{Path: filepath.Join(dir, "audit.log"), Node: "n", Cluster: "c", Hash: testHasher})
	var body []byte
	body = entry("bench").body(body, "n", time.Now(), testHasher)
	head, out := l.Head(), []byte(nil)
	for len(out) < 64<<20 {
		out, head = seal(out, head, false, body)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "audit.log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := f.Write(out); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(out)))
	b.ReportAllocs()
	for b.Loop() {
		r, err := Verify(context.Background(), VerifyOptions{Files: []string{f.Name()}, Anchors: []Head{head}})
		if err != nil || r.Anchored != 1 {
			b.Fatal(err)
		}
	}
}
