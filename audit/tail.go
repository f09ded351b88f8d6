package audit

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

const (
	// maxGroup bounds one write, except that its last record may overrun it.
	maxGroup = 1 << 20
	// tailWindow is how much of a file is read back when it is opened. A crash can
	// damage the last write only, and the line before it must be seen too.
	tailWindow = maxGroup + 3*maxLine
)

// ending is how a file ends.
type ending struct {
	head Head  // the last record in order
	end  int64 // where it ends
	size int64 // of the file
	torn Hash  // SHA-256 of what is behind end, if anything is
	// why is not empty if the file is not what this log leaves behind, even after a
	// crash. head is then the last record of those that can be believed.
	why string
}

// readEnding reads a file's end back and judges it.
//
// The writer syncs each group of records before it writes the next, and the first
// record of a group says so (link.synced). Damage that no such record follows is in
// the last group: a crash explains it, and nothing from there on was acknowledged.
// Damage before such a record was durable once, and no crash explains it. Nor does it
// explain another record in the place of one that was anchored.
func readEnding(f File, size int64, anchor Head) (ending, error) {
	from := max(0, size-tailWindow)
	e := ending{end: from, size: size}
	var seen Head // the highest record that is whole, in its place or not
	lines := newLineReader(f, from, size)
	trusted, damaged := false, false
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return e, err
		}
		if line.n == 1 && from > 0 {
			e.end = lines.off // the window cut this line in two
			continue
		}
		l, err := parse(line.text)
		whole := err == nil && l.intact && line.ending && !line.long
		if whole && l.head.Seq > seen.Seq {
			seen = l.head
		}
		if whole && !damaged && (!trusted || l.head.Seq == e.head.Seq+1 && l.prev == e.head.Hash) {
			e.head, e.end, trusted = l.head, lines.off, true
			if e.why == "" {
				e.why = against(anchor, l.head)
			}
			continue
		}
		damaged = true
		if whole && l.synced && trusted && e.why == "" {
			e.why = fmt.Sprintf("damaged behind record %d, which was not the end", e.head.Seq)
		}
	}
	if !trusted {
		e.why = "no record in order near its end"
	}
	if e.why != "" {
		e.head = seen
		return e, nil
	}
	var err error
	if e.end < size {
		e.torn, err = hashRange(f, e.end, size)
	}
	return e, err
}

func hashRange(f File, from, to int64) (sum Hash, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, from, to-from)); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}
