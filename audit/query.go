package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"
)

// Filter says which records to return. An empty field lets every record pass.
type Filter struct {
	// Path is compared with the path of the request: "*" stands for any characters,
	// "+" for one whole segment.
	Path string
	// Who is compared with the display name and the entity, where "*" stands for any
	// characters, and with the accessor, as HashValue spells it.
	Who       string
	Since     time.Time // this or later
	Until     time.Time // before this
	Operation string
	Outcome   Outcome
	RequestID string
	// Value is a keyed hash, as HashValue spells it: it stands in the data of the
	// request or of the response, or is one of their accessors.
	Value string

	NewestFirst bool
	Limit       int // 0 means all
}

// Query yields the records of requests in files that pass the filter, in the order
// of the log or its reverse. It reads in constant memory and decodes only what may
// pass. A nil fsys means Disk.
//
// A line that is no intact record is yielded as a *Fault with a zero Record, and the
// reading goes on. Any other error ends the file it is of; the files after it follow.
func Query(ctx context.Context, fsys FS, files []string, filter Filter) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		q := query{ctx: ctx, fs: orDisk(fsys), filter: filter, needles: filter.needles(), yield: yield}
		sorted := order(q.fs, files)
		if filter.NewestFirst {
			slices.Reverse(sorted)
		}
		for _, name := range sorted {
			if err := q.read(name); err != nil && !q.stop {
				q.give(Record{}, err)
			}
			if q.stop {
				return
			}
		}
	}
}

type query struct {
	ctx     context.Context
	fs      FS
	filter  Filter
	needles [][]byte
	yield   func(Record, error) bool
	given   int
	stop    bool
}

// give yields once, and notes whether that was the last time.
func (q *query) give(r Record, err error) {
	if err == nil {
		q.given++
	}
	q.stop = !q.yield(r, err) || q.filter.Limit > 0 && q.given >= q.filter.Limit
}

type lineSource interface{ next() (textLine, error) }

func (q *query) read(name string) error {
	f, err := q.fs.Open(name, ModeRead)
	if err != nil {
		return fmt.Errorf("opening audit file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("opening audit file: %w", err)
	}
	var lines lineSource = newLineReader(f, 0, info.Size)
	if q.filter.NewestFirst {
		lines = newReverseReader(f, info.Size)
	}
	for n := 0; !q.stop; n++ {
		if n%1024 == 0 && q.ctx.Err() != nil {
			err := fmt.Errorf("querying audit log: %w", context.Cause(q.ctx))
			q.give(Record{}, err)
			q.stop = true
			return err
		}
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading audit file %s: %w", name, err)
		}
		q.line(name, line)
	}
	return nil
}

// line yields a line if it passes.
func (q *query) line(name string, line textLine) {
	bad := func(kind FaultKind, seq uint64, detail string) {
		q.give(Record{}, &Fault{Kind: kind, File: name, Line: line.n, Offset: line.off, Seq: seq, Detail: detail})
	}
	l, err := parse(line.text)
	switch {
	case !line.ending:
		bad(FaultTorn, 0, "the last line has no end")
		return
	case err != nil || line.long:
		bad(FaultUnreadable, 0, "the line is not a record")
		return
	case !l.intact:
		bad(FaultEdited, l.head.Seq, "its bytes do not have its hash")
		return
	}
	if !l.is(TypeRequest) && !l.is(TypeResponse) && !l.is(TypeAccess) {
		return
	}
	for _, needle := range q.needles {
		if !bytes.Contains(l.body, needle) {
			return
		}
	}
	var r Record
	if err := decodeBody(l.body, &r); err != nil {
		bad(FaultUnreadable, l.head.Seq, "the record does not have the fields of one")
		return
	}
	r.Seq, r.File = l.head.Seq, name
	if q.filter.pass(&r) {
		r.Line = bytes.Clone(line.text)
		q.give(r, nil)
	}
}

// needles are what a record must contain to pass: a search for bytes is ten times
// cheaper than decoding JSON. They are spelled as the encoder spells.
func (f *Filter) needles() [][]byte {
	var all [][]byte
	add := func(name, value string, limit int, end string) {
		if value != "" && len(value) <= limit {
			all = append(all, append(appendEscaped([]byte(name+`"`), value, limit), end...))
		}
	}
	add(`,"operation":`, f.Operation, maxWord, `"`)
	add(`,"outcome":`, string(f.Outcome), maxWord, `"`)
	add(`,"request_id":`, f.RequestID, maxWord, `"`)
	if f.Value != "" {
		all = append(all, []byte(`"`+f.Value+`"`))
	}
	literal := f.Path
	if i := strings.IndexAny(literal, "*+"); i >= 0 {
		literal = literal[:i]
	}
	add(`,"path":`, literal, maxPath, "")
	if !strings.Contains(f.Who, "*") {
		add(``, f.Who, maxWord, `"`)
	}
	return all
}

func (f *Filter) pass(r *Record) bool {
	return (f.Operation == "" || f.Operation == r.Operation) &&
		(f.Outcome == "" || f.Outcome == r.Outcome) &&
		(f.RequestID == "" || f.RequestID == r.RequestID) &&
		(f.Since.IsZero() || !r.Time.Before(f.Since)) &&
		(f.Until.IsZero() || r.Time.Before(f.Until)) &&
		(f.Path == "" || match(f.Path, r.Path, true)) &&
		(f.Who == "" || match(f.Who, r.Auth.DisplayName, false) ||
			match(f.Who, r.Auth.Entity, false) || f.Who == r.Auth.Accessor)
}

// match compares s with a pattern in which "*" stands for any bytes and, if segments
// is set, a segment "+" for one segment. It takes at most len(pattern)*len(s) steps: only
// the last star is ever tried anew.
func match(pattern, s string, segments bool) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) || p < len(pattern) {
		if p < len(pattern) {
			switch {
			case pattern[p] == '*':
				star, mark = p, i
				p++
				continue
			case segments && plusSegment(pattern, p) && (i == 0 || s[i-1] == '/'):
				if end := segmentEnd(s, i); end > i {
					p, i = p+1, end
					continue
				}
			case i < len(s) && pattern[p] == s[i] && !(segments && plusSegment(pattern, p)):
				p, i = p+1, i+1
				continue
			}
		}
		if star < 0 || mark >= len(s) {
			return false
		}
		mark++
		p, i = star+1, mark
	}
	return true
}

// plusSegment tells whether the byte at p is a "+" that is a segment by itself.
func plusSegment(pattern string, p int) bool {
	return pattern[p] == '+' && (p == 0 || pattern[p-1] == '/') && (p+1 == len(pattern) || pattern[p+1] == '/')
}

func segmentEnd(s string, from int) int {
	if i := strings.IndexByte(s[from:], '/'); i >= 0 {
		return from + i
	}
	return len(s)
}
