package fsm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/conclave-secrets/conclave/storage/state"
)

// The snapshot format:
//
//	"CNCLVIMG" | format (1 byte) | row … row | 0 | meta row
//	row:  length of key (uvarint, > 0) | key | length of value (uvarint) | value
//	meta: length (uvarint) | value
//
// Rows come in key order. The meta row, with the sum over all rows, comes last,
// so that a stream that was cut off or altered cannot pass.
const (
	imageMagic   = "CNCLVIMG"
	imageFormat1 = 0x01
)

// image is a Snapshot over a view.
type image struct {
	view *state.View
	meta *metaRow
}

func (s *image) Index() uint64 { return s.meta.Applied }
func (s *image) Close() error  { return s.view.Close() }

// WriteTo implements Snapshot.
func (s *image) WriteTo(w io.Writer) (int64, error) {
	out := &countingWriter{w: bufio.NewWriterSize(w, 256<<10)}
	out.put([]byte(imageMagic))
	out.put([]byte{imageFormat1})
	err := eachState(s.view, func(k, v []byte) error {
		out.field(k)
		out.field(v)
		return out.err
	})
	out.put([]byte{0})
	out.field(encodeMeta(s.meta))
	if err == nil {
		err = out.err
	}
	if err == nil {
		err = out.w.Flush()
	}
	if err != nil {
		return out.n, fmt.Errorf("writing snapshot: %w", err)
	}
	return out.n, nil
}

type countingWriter struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (c *countingWriter) put(p []byte) {
	if c.err == nil {
		var n int
		n, c.err = c.w.Write(p)
		c.n += int64(n)
	}
}

func (c *countingWriter) field(p []byte) {
	var n [binary.MaxVarintLen64]byte
	c.put(binary.AppendUvarint(n[:0], uint64(len(p))))
	c.put(p)
}

// eachState walks every row but the meta row, in key order.
func eachState(from state.Reader, do func(k, v []byte) error) (err error) {
	c, err := from.Cursor(nil, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for c.Next() {
		if string(c.Key()) == string(metaKey) {
			continue
		}
		v, err := c.Value()
		if err != nil {
			return err
		}
		if err := do(c.Key(), v); err != nil {
			return err
		}
	}
	return c.Err()
}

func sumRows(from state.Reader) (sum, error) {
	var s sum
	err := eachState(from, func(k, v []byte) error {
		s.add(element(k, v))
		return nil
	})
	return s, err
}

// errImage says that a snapshot is not whole.
var errImage = errors.New("snapshot is damaged")

// maxImageField bounds one key or value in a snapshot, in bytes: no row that
// ValidateBatch lets in comes near it.
const maxImageField = 16 << 20

// trustedField is how much is allocated for a field on its announced length alone.
const trustedField = 64 << 10

func readImage(r io.Reader, w *state.Writer) error {
	in := bufio.NewReaderSize(r, 256<<10)
	head := make([]byte, len(imageMagic)+1)
	if _, err := io.ReadFull(in, head); err != nil {
		return fmt.Errorf("reading its head: %w", err)
	}
	if string(head[:len(imageMagic)]) != imageMagic {
		return fmt.Errorf("%w: it does not start as one", errImage)
	}
	if f := head[len(imageMagic)]; f != imageFormat1 {
		return fmt.Errorf("snapshot format %d is not one this version knows", f)
	}
	var found sum
	var last []byte
	for {
		k, v, err := readRow(in)
		if err != nil {
			return err
		}
		if k == nil {
			return finishImage(in, w, found)
		}
		// A key that comes twice would count twice in the sum and once in the store.
		if bytes.Compare(k, last) <= 0 {
			return fmt.Errorf("%w: its rows are not in order", errImage)
		}
		if err := checkRow(k, v); err != nil {
			return fmt.Errorf("%w: %w", errImage, err)
		}
		found.add(element(k, v))
		if err := w.Set(k, v); err != nil {
			return err
		}
		last = k
	}
}

// readRow returns the next row; its key is nil after the last.
func readRow(in *bufio.Reader) (k, v []byte, err error) {
	if k, err = readField(in); err != nil || len(k) == 0 {
		return nil, nil, err
	}
	v, err = readField(in)
	return k, v, err
}

func finishImage(in *bufio.Reader, w *state.Writer, found sum) error {
	raw, err := readField(in)
	if err != nil {
		return err
	}
	meta, err := decodeMeta(raw)
	if err != nil {
		return err
	}
	if meta.Sum != found {
		return fmt.Errorf("%w: the rows at index %d do not add up to their sum", errImage, meta.Applied)
	}
	// The end must be a clean one: a reader that verifies reports damage there.
	switch _, err := in.ReadByte(); {
	case err == nil:
		return fmt.Errorf("%w: bytes follow its end", errImage)
	case !errors.Is(err, io.EOF):
		return err
	}
	return w.Set(metaKey, raw)
}

func readField(in *bufio.Reader) ([]byte, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errImage, noEOF(err))
	}
	if n > maxImageField {
		return nil, fmt.Errorf("%w: a field of %d bytes", errImage, n)
	}
	if n <= trustedField {
		p := make([]byte, n)
		if _, err := io.ReadFull(in, p); err != nil {
			return nil, fmt.Errorf("%w: %w", errImage, noEOF(err))
		}
		return p, nil
	}
	// What is allocated follows what was read, not what was announced.
	var p bytes.Buffer
	if _, err := io.CopyN(&p, in, int64(n)); err != nil {
		return nil, fmt.Errorf("%w: %w", errImage, noEOF(err))
	}
	return p.Bytes(), nil
}

// noEOF turns an end within a field into an unexpected one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
