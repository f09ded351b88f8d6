package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A filter passes what its words say, oldest or newest first, up to its limit, over
// several files.
func TestQuery(t *testing.T) {
	fsys, c := newMemFS(1), newClock()
	o := testOptions(fsys)
	o.Now, o.MaxSize = c.now, 1200
	l := mustOpen(t, o)
	start := c.now()
	for i, e := range []*Entry{
		{Path: "secret/data/a", Operation: "read", Auth: Auth{DisplayName: "ada", Entity: "e1", Accessor: "acc1"}, Outcome: OutcomeOK},
		{Path: "secret/data/a/b", Operation: "update", Auth: Auth{DisplayName: "bob \"x\"", Entity: "e2", Accessor: "acc2"}, Outcome: OutcomeDenied},
		{Path: "secret/metadata/a", Operation: "read", Auth: Auth{DisplayName: "ada", Entity: "e1"}, Outcome: OutcomeFailed},
		{Path: "sys/policy", Operation: "list", Auth: Auth{DisplayName: "root"}, Outcome: OutcomeOK},
		{Path: "kv+1/x", Operation: "read", Auth: Auth{DisplayName: "user+tag@x"}, Outcome: OutcomeOK},
	} {
		e.Type, e.RequestID = TypeAccess, fmt.Sprint(i)
		if err := l.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
		c.advance(time.Hour)
	}
	if len(mustFiles(t, fsys)) < 2 {
		t.Fatal("one file only")
	}
	for _, q := range []struct {
		name string
		f    Filter
		want string
	}{
		{"all", Filter{}, "0 1 2 3 4"},
		{"newest", Filter{NewestFirst: true}, "4 3 2 1 0"},
		{"limit", Filter{Limit: 2}, "0 1"},
		{"newest limit", Filter{NewestFirst: true, Limit: 2}, "4 3"},
		{"path", Filter{Path: "secret/data/a"}, "0"},
		{"prefix", Filter{Path: "secret/*"}, "0 1 2"},
		{"segment", Filter{Path: "secret/+/a"}, "0 2"},
		{"inner star", Filter{Path: "*/a*"}, "0 1 2"},
		{"literal plus", Filter{Path: "kv+1/x"}, "4"},
		{"who", Filter{Who: "ada"}, "0 2"},
		{"who quoted", Filter{Who: `bob "x"`}, "1"},
		{"who star", Filter{Who: "*a*"}, "0 2 4"},
		{"entity", Filter{Who: "e2"}, "1"},
		{"accessor", Filter{Who: HashValue(testHasher, []byte("acc1"))}, "0"},
		{"operation", Filter{Operation: "read"}, "0 2 4"},
		{"outcome", Filter{Outcome: OutcomeDenied}, "1"},
		{"request", Filter{RequestID: "3"}, "3"},
		{"since", Filter{Since: start.Add(90 * time.Minute)}, "2 3 4"},
		{"until", Filter{Until: start.Add(90 * time.Minute)}, "0 1"},
		{"between", Filter{Since: start.Add(time.Minute), Until: start.Add(150 * time.Minute), NewestFirst: true}, "2 1"},
		{"both", Filter{Who: "ada", Operation: "read", Outcome: OutcomeOK}, "0"},
		{"none", Filter{Path: "secret/data/z"}, ""},
		{"not a part", Filter{Operation: "rea"}, ""},
	} {
		got, faults := ids(t, fsys, q.f)
		if strings.Join(got, " ") != q.want || len(faults) > 0 {
			t.Errorf("%s: got %v, want %s; %v", q.name, got, q.want, faults)
		}
	}
}

// A bad record is reported and the others are found all the same.
func TestQueryGoesOn(t *testing.T) {
	fsys, _ := sample(t, 12, 1<<20)
	all := lines(t, fsys)
	all[4].text = "not a record"
	all[7].text = strings.Replace(all[7].text, "hmac", "hmad", 1)
	changed := rebuilt(mustFiles(t, fsys), all)
	changed.put(testPath, append(changed.bytes(testPath), `{"seq":`...))
	for _, newest := range []bool{false, true} {
		got, faults := ids(t, changed, Filter{NewestFirst: newest})
		if len(got) != 10 || len(faults) != 3 {
			t.Errorf("%d records, faults %v", len(got), faults)
		}
		if !slices.IsSortedFunc(faults, func(a, b *Fault) int {
			if newest {
				a, b = b, a
			}
			return int(a.Offset - b.Offset)
		}) {
			t.Errorf("faults out of order: %v", faults)
		}
	}
}

// A query ends when its reader has enough, and when its context does.
func TestQueryEnds(t *testing.T) {
	fsys, _ := sample(t, 12, 1500)
	n := 0
	for range Query(context.Background(), fsys, mustFiles(t, fsys), Filter{}) {
		if n++; n == 3 {
			break
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	n = 0
	for _, err := range Query(ctx, fsys, mustFiles(t, fsys), Filter{}) {
		if n++; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d answers", n)
	}
	for _, err := range Query(context.Background(), fsys, []string{"d/none"}, Filter{}) {
		if err == nil {
			t.Error("a file that is not there is no error")
		}
	}
}

// matchSlow is the obvious matcher.
func matchSlow(p, s string, atStart bool) bool {
	if p == "" {
		return s == ""
	}
	if p[0] == '*' {
		for i := range len(s) + 1 {
			if matchSlow(p[1:], s[i:], i > 0 && s[i-1] == '/' || i == 0 && atStart) {
				return true
			}
		}
		return false
	}
	return s != "" && p[0] == s[0] && matchSlow(p[1:], s[1:], s[0] == '/')
}

// The matcher agrees with the obvious one on stars, and with itself spelled out on
// segments.
func TestMatch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	word := func(alphabet string, n int) string {
		b := make([]byte, rng.IntN(n))
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
		}
		return string(b)
	}
	hits := 0
	for range 200_000 {
		p, s := word("ab/*", 8), word("ab/", 10)
		got := match(p, s, true)
		if got != matchSlow(p, s, true) {
			t.Fatalf("match(%q, %q) = %v", p, s, got)
		}
		if got {
			hits++
		}
	}
	if hits < 1000 {
		t.Errorf("%d hits", hits)
	}
	for _, c := range []struct {
		p, s string
		want bool
	}{
		{"+", "a", true}, {"+", "", false}, {"+", "a/b", false}, {"+/b", "a/b", true}, {"a/+/c", "a/b/c", true}, {"a/+/c", "a//c", false},
		{"a/+/c", "a/b/d/c", false}, {"a/+", "a/b", true}, {"a/+/*", "a/b/c/d", true}, {"*/+/x", "a/b/c/x", true}, {"a+", "a+", true},
		{"a+", "ab", false}, {"+a/b", "xa/b", false}, {"+/+", "a/b", true}, {"*+", "a/+", true},
	} {
		if got := match(c.p, c.s, true); got != c.want {
			t.Errorf("match(%q, %q) = %v", c.p, c.s, got)
		}
	}
}

// Both readers see the same lines in anything, a long line included.
func FuzzLines(f *testing.F) {
	for _, s := range []string{"", "\n", "a", "a\n", "a\nb", "\n\na\n\n", strings.Repeat("x", 200_000) + "\ny\n"} {
		f.Add([]byte(s), uint8(0))
	}
	f.Add([]byte("ab\ncd\n"), uint8(200))
	f.Fuzz(func(t *testing.T, b []byte, stretch uint8) {
		// Lines longer than a block and than any record of ours.
		if stretch > 0 {
			b = bytes.ReplaceAll(b, []byte("a"), bytes.Repeat([]byte("z"), int(stretch)*3000))
		}
		drain := func(l lineSource) (all []textLine) {
			for {
				line, err := l.next()
				if err != nil {
					return all
				}
				line.text, line.n = bytes.Clone(line.text), 0
				if line.long {
					line.text = nil
				}
				if len(line.text) == 0 {
					line.text = nil
				}
				all = append(all, line)
			}
		}
		forward := drain(newLineReader(bytes.NewReader(b), 0, int64(len(b))))
		backward := drain(newReverseReader(bytes.NewReader(b), int64(len(b))))
		slices.Reverse(backward)
		same := slices.EqualFunc(forward, backward, func(x, y textLine) bool {
			return bytes.Equal(x.text, y.text) && x.off == y.off && x.ending == y.ending && x.long == y.long
		})
		if !same {
			t.Fatalf("%d bytes: %d lines forward, %d backward", len(b), len(forward), len(backward))
		}
	})
}

// Garbage neither stops nor blows up any reader, and never verifies against an
// anchor.
func FuzzGarbage(f *testing.F) {
	whole, _ := sample(f, 4, 1<<20)
	f.Add(whole.bytes(testPath), uint16(0), []byte{})
	f.Add(whole.bytes(testPath), uint16(900), []byte("\n"))
	f.Add([]byte(`{"seq":18446744073709551615,"prev":"`), uint16(0), []byte(`"}`))
	for _, n := range []int{1, tailLen, tailLen + 9} {
		f.Add([]byte(`{"seq":`+strings.Repeat("9", n)), uint16(3), []byte{0})
	}
	f.Fuzz(func(t *testing.T, text []byte, at uint16, insert []byte) {
		text = slices.Insert(slices.Clone(text), min(int(at), len(text)), insert...)
		fsys := newMemFS(1)
		fsys.put(testPath, text)
		r, err := verify(t, fsys, Head{1 << 40, Hash{1}})
		if fault := new(Fault); !errors.As(err, &fault) || r.FaultCount == 0 {
			t.Fatalf("no fault: %v", err)
		}
		a, fa := ids(t, fsys, Filter{})
		b, fb := ids(t, fsys, Filter{NewestFirst: true})
		slices.Reverse(b)
		if !slices.Equal(a, b) || len(fa) != len(fb) {
			t.Fatalf("forward %v %v, backward %v %v", a, fa, b, fb)
		}
		// The log's own goroutine would only make the coverage flicker.
		o := testOptions(fsys)
		c := &file{fs: fsys, path: testPath, now: o.Now, node: "n1", cluster: "c1", notify: func(Event) {}, keeping: keeping{maxSize: 1 << 20}}
		if err := c.open(Head{}); err != nil {
			t.Fatal(err)
		}
		lines, head := seal(nil, c.head, true, entry("r0").body(nil, "n1", testTime, testHasher))
		if err := errors.Join(c.ready(len(lines)), c.write(lines, head)); err != nil {
			t.Fatal(err)
		}
		if got, _ := ids(t, fsys, Filter{NewestFirst: true, Limit: 1}); len(got) != 1 || got[0] != "r0" {
			t.Fatalf("after opening: %v", got)
		}
	})
}

func BenchmarkQuery(b *testing.B) {
	fsys := newMemFS(1)
	l := mustOpen(b, testOptions(fsys))
	text, head := fsys.bytes(testPath), l.Head()
	for i := 0; len(text) < 16<<20; i++ {
		text, head = seal(text, head, false, entry(fmt.Sprint(i)).body(nil, "n1", testTime, testHasher))
	}
	fsys.put(testPath, text)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		n := 0
		for _, err := range Query(context.Background(), fsys, []string{testPath}, Filter{Path: "secret/data/99*"}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n == 0 {
			b.Fatal("nothing found")
		}
	}
}
