package audit

import (
	"errors"
	"slices"
	"strconv"
)

const (
	maxDepth  = 16   // containers within each other; what is deeper is hashed whole
	maxKey    = 256  // bytes of a field's name
	maxClear  = 4096 // bytes of one exempted string
	maxNumber = 64   // bytes of one exempted number
)

// Names that a record uses where the data's own would not do.
const (
	keyMore      = "audit:more"      // the hash of the rest of an object that is too long
	keyMalformed = "audit:malformed" // the hash of data that is not JSON
)

var errMalformed = errors.New("data is not JSON")

// appendData appends name and the data as JSON, every value hashed, or nothing if
// there is no data. path is what the record shows as the request's.
func appendData(dst []byte, name, path string, d *Data, h Hasher) []byte {
	if d.empty() {
		return dst
	}
	bare := len(dst)
	dst = append(dst, name...)
	if d.Message != nil {
		if dst = appendMessage(dst, path, d, h); string(dst[bare+len(name):]) == "{}" {
			return dst[:bare]
		}
		return dst
	}
	w := walker{src: d.JSON, dst: dst, start: len(dst), hash: h, clear: d.Clear}
	if err := w.data(d.Fields); err != nil {
		// Half of a document may reveal where it broke, and is no use: one hash says
		// what came, and `conclave audit hash` can find it.
		w.dst = append(w.dst[:w.start], `{"`+keyMalformed+`":"`...)
		w.dst = append(appendHashed(w.dst, h, d.JSON), '"', '}')
	}
	return w.dst
}

// walker reads JSON once, without building values, and writes the same structure
// with hashes in it.
type walker struct {
	src     []byte
	pos     int
	dst     []byte
	start   int
	hash    Hasher
	clear   []string
	scratch []byte
}

// data writes the fields and the document as one object, or the document alone if
// it is no object.
func (w *walker) data(fields []Field) error {
	w.space()
	bare := len(w.src) == 0
	if !bare && w.peek() != '{' && len(fields) == 0 {
		if err := w.value(0, false); err != nil {
			return err
		}
		return w.end()
	}
	w.dst = append(w.dst, '{')
	for i, f := range fields {
		if i > 0 {
			w.dst = append(w.dst, ',')
		}
		if w.full() {
			w.dst = append(w.dst, `"`+keyMore+`":"`...)
			w.dst = strconv.AppendInt(w.dst, int64(len(fields)-i), 10)
			w.dst = append(w.dst, ` fields"`...)
			break
		}
		w.field(f)
	}
	if bare {
		w.dst = append(w.dst, '}')
		return nil
	}
	if w.peek() != '{' {
		return errMalformed
	}
	w.pos++
	if err := w.members(0, false, len(fields) > 0); err != nil {
		return err
	}
	return w.end()
}

func (w *walker) field(f Field) {
	w.dst = appendText(w.dst, f.Name, maxKey)
	w.dst = append(w.dst, ':')
	if slices.Contains(w.clear, f.Name) {
		w.dst = appendText(w.dst, f.Value, maxClear)
		return
	}
	w.hashed(f.Value)
}

func (w *walker) full() bool { return len(w.dst)-w.start > maxData }

func (w *walker) hashed(value []byte) {
	w.dst = append(w.dst, '"')
	w.dst = appendHashed(w.dst, w.hash, value)
	w.dst = append(w.dst, '"')
}

func (w *walker) space() {
	for w.pos < len(w.src) {
		switch w.src[w.pos] {
		case ' ', '\t', '\n', '\r':
			w.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end.
func (w *walker) peek() byte {
	if w.pos < len(w.src) {
		return w.src[w.pos]
	}
	return 0
}

func (w *walker) end() error {
	if w.space(); w.pos != len(w.src) {
		return errMalformed
	}
	return nil
}

func (w *walker) value(depth int, clear bool) error {
	w.space()
	switch c := w.peek(); c {
	case '{', '[':
		if depth >= maxDepth {
			return w.whole()
		}
		w.pos++
		w.dst = append(w.dst, c)
		if c == '{' {
			return w.members(depth, clear, false)
		}
		return w.elements(depth, clear)
	case '"':
		return w.text(clear)
	default:
		return w.literal(clear)
	}
}

// members writes an object whose opening brace was read; more tells that members
// of another origin stand before its own.
func (w *walker) members(depth int, clear, more bool) error {
	if w.space(); w.peek() == '}' {
		w.pos++
		w.dst = append(w.dst, '}')
		return nil
	}
	for {
		if more {
			w.dst = append(w.dst, ',')
		}
		more = true
		if w.full() {
			w.dst = append(w.dst, `"`+keyMore+`":`...)
			return w.rest('}')
		}
		w.space()
		key, err := w.unquote()
		if err != nil {
			return err
		}
		open := clear || depth == 0 && slices.Contains(w.clear, string(key))
		w.dst = append(appendText(w.dst, key, maxKey), ':')
		if w.space(); w.peek() != ':' {
			return errMalformed
		}
		w.pos++
		if err := w.value(depth+1, open); err != nil {
			return err
		}
		if done, err := w.next('}'); done || err != nil {
			return err
		}
	}
}

func (w *walker) elements(depth int, clear bool) error {
	if w.space(); w.peek() == ']' {
		w.pos++
		w.dst = append(w.dst, ']')
		return nil
	}
	for first := true; ; first = false {
		if !first {
			w.dst = append(w.dst, ',')
		}
		if w.full() {
			return w.rest(']')
		}
		if err := w.value(depth+1, clear); err != nil {
			return err
		}
		if done, err := w.next(']'); done || err != nil {
			return err
		}
	}
}

// next reads the comma after a member or element, or the container's end, which it
// writes too.
func (w *walker) next(closing byte) (done bool, err error) {
	w.space()
	switch w.peek() {
	case ',':
		w.pos++
		return false, nil
	case closing:
		w.pos++
		w.dst = append(w.dst, closing)
		return true, nil
	}
	return false, errMalformed
}

// whole hashes the bytes of the container that begins here.
func (w *walker) whole() error {
	from := w.pos
	w.pos++
	if err := w.skip(); err != nil {
		return err
	}
	w.hashed(w.src[from:w.pos])
	return nil
}

// rest hashes what is left of the container that the walker is in, and closes it.
func (w *walker) rest(closing byte) error {
	from := w.pos
	if err := w.skip(); err != nil {
		return err
	}
	if w.src[w.pos-1] != closing {
		return errMalformed
	}
	w.hashed(w.src[from : w.pos-1])
	w.dst = append(w.dst, closing)
	return nil
}

// skip moves behind the end of the container that the walker is in. It counts
// brackets instead of recursing, whatever their kind: nothing of what it skips is
// written, so what is malformed in there does no harm.
func (w *walker) skip() error {
	for depth := 1; w.pos < len(w.src); {
		switch w.src[w.pos] {
		case '"':
			if _, err := w.quoted(); err != nil {
				return err
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if w.pos++; depth == 0 {
			return nil
		}
	}
	return errMalformed
}

// text writes the string that begins here.
func (w *walker) text(clear bool) error {
	s, err := w.unquote()
	if err != nil {
		return err
	}
	if clear {
		w.dst = appendText(w.dst, s, maxClear)
		return nil
	}
	w.hashed(s)
	return nil
}

// literal writes the number, boolean or null that begins here. A null hides nothing
// and stays.
func (w *walker) literal(clear bool) error {
	from := w.pos
	for w.pos < len(w.src) && !delimiter(w.src[w.pos]) {
		w.pos++
	}
	raw := w.src[from:w.pos]
	switch {
	case string(raw) == "null":
		w.dst = append(w.dst, "null"...)
	case string(raw) != "true" && string(raw) != "false" && !number(raw):
		return errMalformed
	case clear && len(raw) <= maxNumber:
		w.dst = append(w.dst, raw...)
	default:
		w.hashed(raw)
	}
	return nil
}
