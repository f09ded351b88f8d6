package audit

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// suffixNext ends the name of a file that is not part of the log yet.
const suffixNext = ".next"

// Files lists the files of the log at path, oldest first: the file itself and those
// beside it whose names add a number to its own ("audit.log.1", not
// "audit.log.1.gz"). A nil fsys means Disk.
func Files(fsys FS, path string) ([]string, error) {
	fsys = orDisk(fsys)
	dir, base := filepath.Split(path)
	names, err := fsys.List(filepath.Clean(dir + "."))
	if err != nil {
		return nil, fmt.Errorf("listing the audit log %s: %w", path, err)
	}
	var files []string
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, base); ok && numbered(rest) {
			files = append(files, dir+name)
		}
	}
	return order(fsys, files), nil
}

func orDisk(fsys FS) FS {
	if fsys == nil {
		return Disk
	}
	return fsys
}

// numbered tells whether suffix is what this package or a log rotator appends to a
// name: numbers, set off by dots or dashes.
func numbered(suffix string) bool {
	return suffix == "" || (suffix[0] == '.' || suffix[0] == '-') && strings.Trim(suffix, ".-0123456789") == ""
}

// order sorts files by where they stand in the chain. A file without any intact
// record near its beginning, or one that cannot be read, stays behind the one that
// it came after: whoever reads it next will say what is wrong with it.
func order(fsys FS, files []string) []string {
	files = slices.SortedFunc(slices.Values(files), byName)
	type placed struct {
		name  string
		start uint64
	}
	all := make([]placed, len(files))
	for i, name := range files {
		b, err := look(fsys, name)
		if all[i] = (placed{name, b.votes}); i > 0 && (err != nil || b.votes == 0) {
			all[i].start = all[i-1].start
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return cmp.Compare(a.start, b.start) })
	sorted := make([]string, len(files))
	for i, p := range all {
		sorted[i] = p.name
	}
	return sorted
}

// byName puts numbered names in their order and the one without a number behind
// them: it is the newest.
func byName(a, b string) int {
	if strings.HasPrefix(a, b) || strings.HasPrefix(b, a) {
		return len(b) - len(a)
	}
	return strings.Compare(a, b)
}

// beginning is what the first lines of a file tell of it.
type beginning struct {
	votes  uint64  // what record the file begins with, by a header that is followed or by most lines; 0 if none is intact
	start  uint64  // the same, believing a header that is not followed if nothing speaks against it
	header *Header // nil if the first line is none
	size   int64
}

// lookLines is how many lines look reads.
const lookLines = 64

// look reads the beginning of a file. What is wrong with it is no error: it finds
// out where the file belongs although any one of its lines may be lying.
func look(fsys FS, name string) (b beginning, err error) {
	f, err := fsys.Open(name, ModeRead)
	if err != nil {
		return b, fmt.Errorf("opening audit file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return b, fmt.Errorf("opening audit file: %w", err)
	}
	b.size = info.Size
	first, linked, votes := Head{}, false, map[uint64]int{}
	lines := newLineReader(f, 0, info.Size)
	for range lookLines {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return b, fmt.Errorf("reading audit file: %w", err)
		}
		l, err := parse(line.text)
		if err != nil || !l.intact || line.long || !line.ending {
			continue
		}
		votes[max(l.head.Seq, uint64(line.n))-uint64(line.n)+1]++
		if h, err := l.header(); err == nil && line.n == 1 {
			b.header, first = &h, l.head
		}
		linked = linked || b.header != nil && l.prev == first.Hash
	}
	if b.votes = winner(votes); linked {
		b.votes = first.Seq
	}
	// A header that nothing follows may be another file's. Lines that were removed
	// behind it make the others vote for more; only less speaks against it.
	if b.start = b.votes; b.header != nil && b.votes >= first.Seq {
		b.start = first.Seq
	}
	return b, nil
}

// winner returns the start with the most votes, the lowest of several.
func winner(votes map[uint64]int) (start uint64) {
	for s, n := range votes {
		if n > votes[start] || n == votes[start] && s < start {
			start = s
		}
	}
	return start
}
