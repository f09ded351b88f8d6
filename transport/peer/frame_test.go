package peer

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/conclave-secrets/conclave/cluster"
	"github.com/conclave-secrets/conclave/fsm"
)

// Whatever arrives, the decoder neither panics nor takes more than it was
// given; and what it accepts encodes to the very bytes it came from.
func FuzzReadFrame(f *testing.F) {
	for _, x := range []frame{{}, {request: 1, kind: methodPropose, millis: 5, body: []byte("body")}} {
		p, err := appendFrame(nil, x)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
		f.Add(p[:len(p)-1])
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, p []byte) {
		r := bytes.NewReader(p)
		x, err := readFrame(r)
		if err != nil {
			return
		}
		again, err := appendFrame(nil, x)
		if err != nil {
			t.Fatal(err)
		}
		if used := p[:len(p)-r.Len()]; !bytes.Equal(again, used) {
			t.Errorf("frame %x encodes to %x", used, again)
		}
	})
}

// A frame that ends early, is too short to be one, or has another format is refused.
func TestReadFrameRefuses(t *testing.T) {
	good, err := appendFrame(nil, frame{request: 3, kind: 1, body: make([]byte, 600<<10)})
	if err != nil {
		t.Fatal(err)
	}
	format := bytes.Clone(good)
	format[4] = 2
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"nothing":      {nil, io.EOF},
		"half a head":  {good[:7], io.ErrUnexpectedEOF},
		"half a body":  {good[:len(good)/2], io.ErrUnexpectedEOF},
		"no body":      {good[:headSize], io.ErrUnexpectedEOF},
		"too short":    {append([]byte{0, 0, 0, 13}, good[4:]...), errFrameSize},
		"other format": {format, errFrameFormat},
	} {
		if _, err := readFrame(bytes.NewReader(c.bytes)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// The bodies with a format of their own come back as they went, and no bytes
// make their decoders panic or allocate beyond the input's size.
func FuzzBodies(f *testing.F) {
	f.Add(encodeBatches([]cluster.RawBatch{[]byte("a"), {}, make([]byte, 300)}))
	f.Add(encodeReplies([]cluster.Reply{{Code: cluster.ReplyDone, Result: fsm.Result{Code: fsm.Refused, Index: 1 << 40, Time: -1, Guard: 3, Reason: 2}}, {}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, p []byte) {
		var batches, again []cluster.RawBatch
		if decode(p, &batches) == nil {
			if err := decode(encodeBatches(batches), &again); err != nil || len(again) != len(batches) {
				t.Errorf("%d batches came back as %d: %v", len(batches), len(again), err)
			}
		}
		var replies, back []cluster.Reply
		if decode(p, &replies) == nil {
			if err := decode(encodeReplies(replies), &back); err != nil || len(back) != len(replies) {
				t.Errorf("%d replies came back as %d: %v", len(replies), len(back), err)
			}
			for i := range back {
				if back[i] != replies[i] {
					t.Errorf("reply %+v came back as %+v", replies[i], back[i])
				}
			}
		}
	})
}
