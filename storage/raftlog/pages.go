package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt trusts its pages: with one that is altered or cut off, it panics on a
// goroutine of its own while it opens the file, or follows an offset out of the
// mapping, and the process is gone without a word. So every page that is in use is
// looked at before bbolt is. What the pages hold is not looked at: entries and
// values have checksums of their own.
//
//	page:   id u64 | flags u16 | count u16 | overflow u32, then elements
//	meta:   magic u32 | version u32 | page size u32 | flags u32 | root u64 |
//	        sequence u64 | freelist u64 | end u64 | transaction u64 | FNV-1a u64
//	branch: offset u32 | key size u32 | page u64
//	leaf:   flags u32 | offset u32 | key size u32 | value size u32
//	bucket: root u64 | sequence u64, as the value of a leaf; root 0: a page follows
//
// Numbers are in the machine's order, offsets count from their element.
const (
	pageHeader  = 16
	pageElement = 16
	bucketValue = 16
	metaSize    = 64
	metaSummed  = metaSize - 8

	pageBranch = 0x01
	pageLeaf   = 0x02

	leafBucket = 0x01

	leastPage = 1 << 10 // bytes; what bbolt looks for
	mostPage  = leastPage << 14

	boltMagic   = 0xED0CDAED
	boltVersion = 2
)

var order = binary.NativeEndian

// pages looks at the pages of one bbolt file.
type pages struct {
	file io.ReaderAt
	size int64
	page int64           // bytes
	end  uint64          // pages from here on are not in use
	root uint64          // of the tree
	seen map[uint64]bool // pages that something refers to
}

// inspect returns an error wrapping [ErrRotten] for a file that bbolt would
// stumble over.
func inspect(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	p := &pages{file: f, size: info.Size(), seen: map[uint64]bool{}}
	if err := p.meta(); err != nil {
		return err
	}
	return p.tree(p.root, nil, nil)
}

func rotten(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrRotten)
}

// meta finds the newest whole meta page, as bbolt does: the first two pages take
// turns, and a torn one is passed over.
func (p *pages) meta() error {
	first, err := p.metaAt(0)
	if err != nil {
		return err
	}
	second, err := p.secondMeta(first)
	if err != nil {
		return err
	}
	newest := first
	if newest == nil || second != nil && transaction(second) > transaction(newest) {
		newest = second
	}
	if newest == nil {
		return rotten("neither of the first two pages is whole")
	}
	p.page, p.root, p.end = pageSize(newest), order.Uint64(newest[16:]), order.Uint64(newest[40:])
	if p.end > uint64(p.size/p.page) {
		return rotten("the file ends at page %d of %d", p.size/p.page, p.end)
	}
	return nil
}

func transaction(meta []byte) uint64 { return order.Uint64(meta[48:]) }
func pageSize(meta []byte) int64     { return int64(order.Uint32(meta[8:])) }

// secondMeta looks where the second page begins: the first says it, or the second
// itself does. nil: it is not whole.
func (p *pages) secondMeta(first []byte) ([]byte, error) {
	if first != nil {
		return p.metaAt(pageSize(first))
	}
	for at := int64(leastPage); at <= mostPage; at *= 2 {
		if m, err := p.metaAt(at); err != nil || m != nil && pageSize(m) == at {
			return m, err
		}
	}
	return nil, nil
}

// metaAt reads the meta page at an offset; nil: there is no whole one.
func (p *pages) metaAt(at int64) ([]byte, error) {
	b := make([]byte, pageHeader+metaSize)
	if _, err := p.file.ReadAt(b, at); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading a meta page: %w", err)
	}
	m := b[pageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(m[:metaSummed]) // never fails
	if order.Uint32(m) != boltMagic || order.Uint32(m[4:]) != boltVersion || order.Uint64(m[metaSummed:]) != sum.Sum64() {
		return nil, nil
	}
	return m, nil
}

// tree looks at the pages below id, whose keys must be from least on and before
// end; nil: no bound.
func (p *pages) tree(id uint64, least, end []byte) error {
	b, err := p.read(id)
	if err != nil {
		return err
	}
	return p.elements(id, b, least, end)
}

// read returns a page with what overflows, which nothing else may refer to.
func (p *pages) read(id uint64) ([]byte, error) {
	if id < 2 || id >= p.end {
		return nil, rotten("page %d is not among the %d in use", id, p.end)
	}
	header := make([]byte, pageHeader)
	if _, err := p.file.ReadAt(header, int64(id)*p.page); err != nil {
		return nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	more := uint64(order.Uint32(header[12:]))
	if order.Uint64(header) != id || id+more >= p.end {
		return nil, rotten("page %d says that it is page %d to %d of %d", id, order.Uint64(header), order.Uint64(header)+more, p.end)
	}
	for i := id; i <= id+more; i++ {
		if p.seen[i] {
			return nil, rotten("page %d is referred to twice", i)
		}
		p.seen[i] = true
	}
	b := make([]byte, int64(1+more)*p.page)
	if _, err := p.file.ReadAt(b, int64(id)*p.page); err != nil {
		return nil, fmt.Errorf("reading page %d: %w", id, err)
	}
	return b, nil
}

// elements looks at the elements of a page, in b up to its end.
func (p *pages) elements(id uint64, b []byte, least, end []byte) error {
	flags, count := order.Uint16(b[8:]), int(order.Uint16(b[10:]))
	switch {
	case flags != pageBranch && flags != pageLeaf:
		return rotten("page %d is of an unexpected kind", id)
	case pageHeader+count*pageElement > len(b), flags == pageBranch && count == 0:
		return rotten("page %d cannot hold %d elements", id, count)
	}
	for i := range count {
		at := pageHeader + i*pageElement
		e := b[at : at+pageElement]
		key, value, ok := parts(b[at:], e, flags)
		if !ok {
			return rotten("element %d of page %d lies outside of it", i, id)
		}
		if i > 0 && string(key) <= string(least) || i == 0 && string(key) < string(least) || end != nil && string(key) >= string(end) {
			return rotten("element %d of page %d is out of order", i, id)
		}
		least = key
		if err := p.below(id, b, i, count, e, flags, key, value, end); err != nil {
			return err
		}
	}
	return nil
}

// parts are the key and the value of an element.
func parts(from, e []byte, flags uint16) (key, value []byte, ok bool) {
	offset, keySize, valueSize := uint64(order.Uint32(e)), uint64(order.Uint32(e[4:])), uint64(0)
	if flags == pageLeaf {
		offset, keySize, valueSize = uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
	}
	if offset+keySize+valueSize > uint64(len(from)) {
		return nil, nil, false
	}
	return from[offset : offset+keySize], from[offset+keySize : offset+keySize+valueSize], true
}

// below looks at what an element refers to: a page, or the pages of a bucket.
func (p *pages) below(id uint64, b []byte, i, count int, e []byte, flags uint16, key, value, end []byte) error {
	if flags == pageBranch {
		if i+1 < count {
			at := pageHeader + (i+1)*pageElement
			next, _, ok := parts(b[at:], b[at:at+pageElement], flags)
			if !ok {
				return rotten("element %d of page %d lies outside of it", i+1, id)
			}
			end = next
		}
		return p.tree(order.Uint64(e[8:]), key, end)
	}
	switch kind := order.Uint32(e); {
	case kind == 0:
		return nil
	case kind != leafBucket || len(value) < bucketValue:
		return rotten("element %d of page %d is of an unexpected kind", i, id)
	}
	if root := order.Uint64(value); root != 0 {
		return p.tree(root, nil, nil)
	}
	if len(value) < bucketValue+pageHeader {
		return rotten("element %d of page %d is a bucket without a page", i, id)
	}
	return p.elements(id, value[bucketValue:], nil, nil)
}
