package audit

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"iter"
)

// lineReader reads a file line by line in constant memory.
type lineReader struct {
	r   *bufio.Reader
	off int64 // where the next line begins
	n   int   // the number of the line read last, from 1
}

// textLine is one line without its end.
type textLine struct {
	text   []byte // good until the next read
	off    int64
	n      int
	long   bool // too long to be ours: text holds only its beginning
	ending bool // it ended in a newline, and not in the end of the file
}

func newLineReader(f io.ReaderAt, from, size int64) *lineReader {
	section := io.NewSectionReader(f, from, size-from)
	return &lineReader{r: bufio.NewReaderSize(section, int(min(size-from, maxLine))+1), off: from}
}

// next returns io.EOF after the last line.
func (l *lineReader) next() (textLine, error) {
	text, err := l.r.ReadSlice('\n')
	line := textLine{off: l.off, n: l.n + 1, ending: true}
	switch {
	case err == nil:
		line.text = text[:len(text)-1]
		l.off += int64(len(text))
	case errors.Is(err, bufio.ErrBufferFull):
		line.long = true
		line.text = bytes.Clone(text[:min(len(text), 4096)])
		l.off += int64(len(text))
		if line.ending, err = l.skip(); err != nil {
			return line, err
		}
	case errors.Is(err, io.EOF) && len(text) > 0:
		line.text, line.ending = text, false
		l.off += int64(len(text))
	default:
		return line, err
	}
	l.n++
	return line, nil
}

// skip drops the rest of a line and tells whether it had an end.
func (l *lineReader) skip() (ending bool, err error) {
	for {
		text, err := l.r.ReadSlice('\n')
		l.off += int64(len(text))
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, io.EOF):
			return false, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return false, err
		}
	}
}

// reverseReader reads a file line by line from its end.
type reverseReader struct {
	f     io.ReaderAt
	off   int64  // the file's bytes before it are not read yet
	have  []byte // what was read and not returned, from off on
	first bool   // nothing was returned yet
	long  bool   // have is the end of a line that is too long: its bytes are dropped
}

const reverseBlock = 64 << 10

func newReverseReader(f io.ReaderAt, size int64) *reverseReader {
	return &reverseReader{f: f, off: size, first: true}
}

// next returns io.EOF after the first line. Lines are not numbered: n is 0.
func (r *reverseReader) next() (textLine, error) {
	for {
		if line, ok := r.take(); ok {
			return line, nil
		}
		if r.off <= 0 {
			return r.begin()
		}
		if len(r.have) > maxLine {
			r.long, r.have = true, nil
		}
		if err := r.grow(); err != nil {
			return textLine{}, err
		}
	}
}

// take cuts the last line off what was read, if its beginning was.
func (r *reverseReader) take() (textLine, bool) {
	if n := len(r.have); r.first && n > 0 && r.have[n-1] == '\n' {
		// Only the end of the file can lack a newline: elsewhere it went with the line
		// behind it.
		r.first, r.have = false, r.have[:n-1]
	}
	i := bytes.LastIndexByte(r.have, '\n')
	if i < 0 {
		return textLine{}, false
	}
	line := textLine{text: r.have[i+1:], off: r.off + int64(i) + 1, ending: !r.first, long: r.long || len(r.have)-i-1 > maxLine}
	r.have, r.first, r.long = r.have[:i], false, false
	return line, true
}

func (r *reverseReader) begin() (textLine, error) {
	if r.first && len(r.have) == 0 || r.off < 0 {
		return textLine{}, io.EOF
	}
	line := textLine{text: r.have, ending: !r.first, long: r.long || len(r.have) > maxLine}
	r.off, r.have, r.first = -1, nil, false
	return line, nil
}

func (r *reverseReader) grow() error {
	n := min(r.off, reverseBlock)
	grown := make([]byte, int(n)+len(r.have))
	if _, err := r.f.ReadAt(grown[:n], r.off-n); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	copy(grown[n:], r.have)
	r.off, r.have = r.off-n, grown
	return nil
}

// records yields the lines in b without their ends.
func records(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for line := range bytes.Lines(b) {
			if !yield(bytes.TrimSuffix(line, []byte{'\n'})) {
				return
			}
		}
	}
}
