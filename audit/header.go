package audit

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Header is the first record of a file.
type Header struct {
	Time    time.Time `json:"time"`
	Format  int       `json:"format"`
	Node    string    `json:"node"`
	Cluster string    `json:"cluster"`
	// Oldest is the first record that the log still kept when the file began; what
	// stood before it was removed by the rules of retention.
	Oldest uint64 `json:"oldest"`
	// Break is nil in a file that continues the one before it.
	Break *Break `json:"break"`
}

// Break is why a log went on in a new file although the file before it was not in
// order. The file stays as it was found.
type Break struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

func appendHeader(dst []byte, h *Header) []byte {
	dst = appendStart(dst, typeHeader, h.Node, h.Time)
	dst = append(dst, `,"format":`...)
	dst = strconv.AppendInt(dst, int64(h.Format), 10)
	dst = append(dst, `,"cluster":`...)
	dst = appendText(dst, h.Cluster, maxWord)
	dst = append(dst, `,"oldest":`...)
	dst = strconv.AppendUint(dst, h.Oldest, 10)
	if h.Break != nil {
		dst = append(dst, `,"break":{"file":`...)
		dst = appendText(dst, h.Break.File, maxPath)
		dst = append(dst, `,"why":`...)
		dst = appendText(dst, h.Break.Why, maxError)
		dst = append(dst, '}')
	}
	return dst
}

// header reads the header out of a record.
func (l *link) header() (Header, error) {
	var h Header
	if !l.is(typeHeader) {
		return h, fmt.Errorf("record %d is not a header", l.head.Seq)
	}
	if err := decodeBody(l.body, &h); err != nil {
		return h, fmt.Errorf("reading header %d: not JSON", l.head.Seq)
	}
	return h, nil
}

// Cut is what a crash left of the last write, and the log removed when it was next
// opened: never anything that was acknowledged, unless someone damaged the end of
// the file while the log was closed. Anchors tell.
type Cut struct {
	Seq    uint64 `json:"seq"` // of the record that tells of it
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	SHA256 Hash   `json:"sha256"` // of the bytes
}

func appendCut(dst []byte, node string, now time.Time, c *Cut) []byte {
	dst = appendStart(dst, typeCut, node, now)
	dst = appendField(dst, `,"file":`, c.File, maxPath)
	dst = append(dst, `,"bytes":`...)
	dst = strconv.AppendInt(dst, c.Bytes, 10)
	dst = append(dst, `,"sha256":"`...)
	dst = append(dst, c.SHA256.String()...)
	return append(dst, '"')
}

// Recovery is a log that went on after its file had failed.
type Recovery struct {
	Seq  uint64 `json:"seq"`
	Lost uint64 `json:"lost"` // records that were not written; none of them acknowledged by a required file
	Why  string `json:"why"`
}

func appendRecovery(dst []byte, node string, now time.Time, r *Recovery) []byte {
	dst = appendStart(dst, typeRecovery, node, now)
	dst = append(dst, `,"lost":`...)
	dst = strconv.AppendUint(dst, r.Lost, 10)
	dst = append(dst, `,"why":`...)
	return appendText(dst, r.Why, maxError)
}

// decodeBody reads a body into v.
func decodeBody(body []byte, v any) error {
	object := make([]byte, 0, len(body)+2)
	object = append(object, '{')
	object = append(object, body...)
	return json.Unmarshal(append(object, '}'), v)
}
