package testprocess

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf16"
)

// Canaries are texts that must not be readable. They are looked for as they
// are and in the spellings in which programs like to write things down: hex,
// base64 and base32 at every alignment, UTF-16, and backwards.
//
// Compressed data hides what it holds from this search; what is searched must
// not be compressed.
type Canaries struct {
	// starts has a bit for each first three bytes of a spelling: it skips
	// nearly everything at the price of one look at memory.
	starts    []uint64
	spellings map[[3]byte][]spelling
	longest   int
}

// spelling is one form of one canary.
type spelling struct {
	canary, form string
	bytes        []byte
}

// A Find is a canary that was found.
type Find struct {
	Canary string // its name, not its text
	Form   string // the spelling
	Offset int64
}

func (f Find) String() string { return fmt.Sprintf("%s in %s at %d", f.Canary, f.Form, f.Offset) }

// leastCanary is the shortest text that does not turn up by chance in any of
// its spellings.
const leastCanary = 12

// NewCanaries returns an empty set.
func NewCanaries() *Canaries {
	return &Canaries{starts: make([]uint64, 1<<24/64), spellings: map[[3]byte][]spelling{}}
}

// Add adds a text under a name. It panics when the text is too short to mean
// anything: a mistake in a test.
func (c *Canaries) Add(name string, text []byte) {
	if len(text) < leastCanary {
		panic(fmt.Sprintf("canary %s has %d bytes, and needs %d", name, len(text), leastCanary))
	}
	for _, s := range spell(name, text) {
		start := [3]byte(s.bytes)
		if slices.ContainsFunc(c.spellings[start], func(other spelling) bool { return bytes.Equal(other.bytes, s.bytes) }) {
			continue
		}
		c.spellings[start] = append(c.spellings[start], s)
		at := startIndex(s.bytes)
		c.starts[at/64] |= 1 << (at % 64)
		c.longest = max(c.longest, len(s.bytes))
	}
}

func startIndex(p []byte) uint32 { return uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2]) }

// spell lists the forms of a text.
func spell(name string, text []byte) []spelling {
	var all []spelling
	add := func(form string, p []byte) { all = append(all, spelling{name, form, p}) }
	add("plain text", bytes.Clone(text))
	backwards := bytes.Clone(text)
	slices.Reverse(backwards)
	add("plain text backwards", backwards)
	add("hex", []byte(hex.EncodeToString(text)))
	add("upper-case hex", []byte(strings.ToUpper(hex.EncodeToString(text))))
	for skip := range 3 { // what precedes the text shifts its letters
		add("base64", inner(text[skip:], 3, base64.RawStdEncoding.EncodeToString))
		add("base64url", inner(text[skip:], 3, base64.RawURLEncoding.EncodeToString))
	}
	for skip := range 5 {
		letters := inner(text[skip:], 5, base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString)
		add("base32", letters)
		add("lower-case base32", bytes.ToLower(letters))
	}
	var little, big []byte
	for _, unit := range utf16.Encode([]rune(string(text))) {
		little, big = binary.LittleEndian.AppendUint16(little, unit), binary.BigEndian.AppendUint16(big, unit)
	}
	add("UTF-16LE", little)
	add("UTF-16BE", big)
	return all
}

// inner encodes whole groups only, because the last group mixes with what follows.
func inner(text []byte, group int, encode func([]byte) string) []byte {
	return []byte(encode(text[:len(text)/group*group]))
}

// Search finds canaries in p. Offsets count from the start of p plus base.
func (c *Canaries) Search(p []byte, base int64) (found []Find) {
	for i := 0; i+3 <= len(p); i++ {
		at := startIndex(p[i:])
		if c.starts[at/64]&(1<<(at%64)) == 0 {
			continue
		}
		for _, s := range c.spellings[[3]byte(p[i:])] {
			if bytes.HasPrefix(p[i:], s.bytes) {
				found = append(found, Find{s.canary, s.form, base + int64(i)})
			}
		}
	}
	return found
}

// pieceBytes is how much of a file is searched at a time.
const pieceBytes = 4 << 20

// SearchReader finds canaries in all that r has from here on.
func (c *Canaries) SearchReader(r io.Reader) (found []Find, err error) {
	buffer := make([]byte, 0, pieceBytes+c.longest)
	var base int64
	for {
		n, err := io.ReadFull(r, buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		for _, f := range c.Search(buffer, base) {
			if !slices.Contains(found, f) { // the overlap is seen twice
				found = append(found, f)
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return found, nil
		}
		if err != nil {
			return found, err
		}
		keep := min(len(buffer), c.longest)
		base += int64(len(buffer) - keep)
		buffer = buffer[:copy(buffer[:keep], buffer[len(buffer)-keep:])]
	}
}

// SearchFile finds canaries in a file.
func (c *Canaries) SearchFile(path string) (found []Find, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("searching for canaries: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return c.SearchReader(f)
}
