package audit

import (
	"slices"
	"time"
)

// Anchor is a head of a log that was noted where the holder of the file cannot
// change it, and when.
type Anchor struct {
	Head
	Time time.Time `json:"time"`
}

// MaxAnchors is how many anchors of one log are kept.
const MaxAnchors = 32

// Keep returns kept, which is in the order of the log, with a behind it; the slice
// is the caller's. The newest anchor fixes everything before it, so it alone decides
// whether a log was changed. The older ones only tell since when: every other of the
// older half goes when there are too many, which leaves fewer the older they are.
func Keep(kept []Anchor, a Anchor) []Anchor {
	all := append(slices.Clone(kept), a)
	if len(all) <= MaxAnchors {
		return all
	}
	half := len(all) / 2
	thin := make([]Anchor, 0, MaxAnchors)
	for i := 0; i < half; i += 2 {
		thin = append(thin, all[i])
	}
	return append(thin, all[half:]...)
}

// Heads returns what Verify compares a log with.
func Heads(anchors []Anchor) []Head {
	heads := make([]Head, len(anchors))
	for i, a := range anchors {
		heads[i] = a.Head
	}
	return heads
}

// Origin returns the node and the cluster that the files of a log name in their
// headers; both are empty if no header can be read. A nil fsys means Disk.
func Origin(fsys FS, files []string) (node, cluster string, err error) {
	fsys = orDisk(fsys)
	for _, name := range files {
		b, err := look(fsys, name)
		if err != nil {
			return "", "", err
		}
		if b.header != nil {
			return b.header.Node, b.header.Cluster, nil
		}
	}
	return "", "", nil
}
