package audit

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// The newest anchor always stays, and so do some of any age; there are never too many.
func TestKeepAnchors(t *testing.T) {
	var kept []Anchor
	start := time.Unix(0, 0)
	for i := range uint64(10_000) {
		kept = Keep(kept, Anchor{Head: Head{Seq: i + 1}, Time: start.Add(time.Duration(i) * time.Second)})
		if len(kept) > MaxAnchors || kept[len(kept)-1].Seq != i+1 || kept[0].Seq != 1 {
			t.Fatalf("after %d: %d anchors, from %d to %d", i+1, len(kept), kept[0].Seq, kept[len(kept)-1].Seq)
		}
		for j := range kept[1:] {
			if kept[j].Seq >= kept[j+1].Seq {
				t.Fatalf("after %d: out of order: %v", i+1, Heads(kept))
			}
		}
	}
	for i := len(kept) - MaxAnchors/2; i < len(kept); i++ {
		if gap := kept[i].Seq - kept[i-1].Seq; gap > 2 {
			t.Errorf("a gap of %d among the newer half", gap)
		}
	}
}

// A log whose end was written anew, hashes and all, is found to be another at the
// next start: not only where it ends, but at the anchor before its end.
func TestOpenFindsRewriteBeforeItsEnd(t *testing.T) {
	fsys := newMemFS(3)
	l := mustOpen(t, testOptions(fsys))
	mustAppend(t, l, 0, 5)
	anchor := l.Head()
	mustAppend(t, l, 5, 5)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	forge := func(change bool) (*memFS, string) {
		forged, head, out := newMemFS(4), Head{}, []byte(nil)
		for _, line := range lines(t, fsys) {
			k, err := parse([]byte(line.text))
			if err != nil {
				t.Fatal(err)
			}
			body := string(k.body)
			if change {
				body = strings.Replace(body, "secret/data/r3", "secret/data/x3", 1)
			}
			out, head = seal(out, head, k.synced, []byte(body))
		}
		forged.put(testPath, out)
		return forged, string(out)
	}
	for _, change := range []bool{false, true} {
		forged, _ := forge(change)
		o, ev := testOptions(forged), &events{}
		o.Anchor, o.Notify = anchor, ev.notify
		again := mustOpen(t, o)
		_, err := verify(t, forged, anchor)
		var fault *Fault
		if change != (ev.count(EventTampered) == 1) || change != errors.As(err, &fault) {
			t.Errorf("changed %v: %d events, %v", change, ev.count(EventTampered), err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The files say whose log they are, even if the first of them cannot.
func TestOrigin(t *testing.T) {
	fsys := newMemFS(5)
	l := mustOpen(t, testOptions(fsys))
	mustAppend(t, l, 0, 1)
	fsys.put("d/audit.log.1", []byte("garbage\n"))
	node, cluster, err := Origin(fsys, []string{"d/audit.log.1", testPath})
	if err != nil || node != "n1" || cluster != "c1" {
		t.Errorf("got %q, %q, %v", node, cluster, err)
	}
	if node, _, err := Origin(fsys, []string{"d/audit.log.1"}); err != nil || node != "" {
		t.Errorf("garbage is of node %q, %v", node, err)
	}
}
