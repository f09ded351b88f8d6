package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// Format is the number of the format that this package writes.
const Format = 1

// Hash is the SHA-256 of a record.
type Hash [sha256.Size]byte

// String returns the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes the hash in hex.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads 64 hex digits.
func (h *Hash) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(h)) {
		return errors.New("reading an audit hash: not 64 hex digits")
	}
	if _, err := hex.Decode(h[:], b); err != nil {
		return errors.New("reading an audit hash: not 64 hex digits")
	}
	return nil
}

// Head is a place in the chain: a record's number and hash. As an anchor, kept where
// the holder of the file cannot change it, it fixes everything up to that record.
type Head struct {
	Seq  uint64 `json:"seq"`
	Hash Hash   `json:"hash"`
}

// String returns "SEQ:HASH".
func (h Head) String() string { return strconv.FormatUint(h.Seq, 10) + ":" + h.Hash.String() }

// The parts of a line that every record has. Nothing else may stand between them: a
// second spelling of one record would be a second record.
const (
	lineSeq    = `{"seq":`
	linePrev   = `,"prev":"`
	lineSynced = `"synced":true,`
	lineHash   = `,"hash":"`
	lineEnd    = `"}`

	hexLen  = 2 * sha256.Size
	tailLen = len(lineHash) + hexLen + len(lineEnd)
	// maxLine bounds any line of this package's making, its end included.
	maxLine = maxBody + 512
)

// seal appends the line of the record after head and returns its head. synced says
// that everything before the line was fsynced before the line was written.
func seal(dst []byte, head Head, synced bool, body []byte) ([]byte, Head) {
	from := len(dst)
	dst = append(dst, lineSeq...)
	dst = strconv.AppendUint(dst, head.Seq+1, 10)
	dst = append(dst, linePrev...)
	dst = hex.AppendEncode(dst, head.Hash[:])
	dst = append(dst, '"', ',')
	if synced {
		dst = append(dst, lineSynced...)
	}
	dst = append(dst, body...)
	next := Head{head.Seq + 1, sha256.Sum256(dst[from:])}
	dst = append(dst, lineHash...)
	dst = hex.AppendEncode(dst, next.Hash[:])
	dst = append(dst, lineEnd...)
	return append(dst, '\n'), next
}

// link is what a line says of its place in the chain.
type link struct {
	head   Head // the record itself
	prev   Hash
	synced bool
	body   []byte // aliases the line
	intact bool   // the hash is that of the bytes
}

func (l *link) is(t Type) bool {
	return bytes.HasPrefix(l.body, []byte(`"type":"`+string(t)+`"`))
}

var errNotRecord = errors.New("not a record")

// parse reads a line without its end. It fails on what is not spelled as seal spells
// it; whether the hash is right is in link.intact.
func parse(line []byte) (link, error) {
	l, err := parseLink(line)
	if err == nil {
		l.intact = sha256.Sum256(line[:len(line)-tailLen]) == l.head.Hash
	}
	return l, err
}

// parseLink is parse without the cost of hashing.
func parseLink(line []byte) (l link, err error) {
	rest, ok := bytes.CutPrefix(line, []byte(lineSeq))
	if !ok || len(rest) < tailLen {
		return l, errNotRecord
	}
	n := digits(rest)
	if n == 0 || rest[0] == '0' || n > len(rest)-tailLen {
		return l, errNotRecord
	}
	if l.head.Seq, err = strconv.ParseUint(string(rest[:n]), 10, 64); err != nil {
		return l, errNotRecord
	}
	rest, tail := rest[n:len(rest)-tailLen], rest[len(rest)-tailLen:]
	if rest, ok = bytes.CutPrefix(rest, []byte(linePrev)); !ok {
		return l, errNotRecord
	}
	if rest, ok = cutHash(&l.prev, rest); !ok {
		return l, errNotRecord
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`",`)); !ok {
		return l, errNotRecord
	}
	l.body, l.synced = bytes.CutPrefix(rest, []byte(lineSynced))
	if tail, ok = bytes.CutPrefix(tail, []byte(lineHash)); !ok {
		return l, errNotRecord
	}
	if tail, ok = cutHash(&l.head.Hash, tail); !ok || string(tail) != lineEnd {
		return l, errNotRecord
	}
	return l, nil
}

// cutHash reads lower-case hex from the front of b.
func cutHash(h *Hash, b []byte) (rest []byte, ok bool) {
	if len(b) < hexLen {
		return b, false
	}
	for _, c := range b[:hexLen] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return b, false
		}
	}
	if err := h.UnmarshalText(b[:hexLen]); err != nil {
		return b, false
	}
	return b[hexLen:], true
}

// ParseHead reads what Head.String wrote.
func ParseHead(s string) (Head, error) {
	n := digits([]byte(s))
	if n == len(s) || s[n] != ':' {
		return Head{}, errors.New("reading an audit head: not SEQ:HASH")
	}
	seq, err := strconv.ParseUint(s[:n], 10, 64)
	if err != nil {
		return Head{}, fmt.Errorf("reading an audit head: number %q does not fit", s[:n])
	}
	h := Head{Seq: seq}
	return h, h.Hash.UnmarshalText([]byte(s[n+1:]))
}
