// Package redact holds the type of a secret: bytes that print, log and encode
// as "[redacted]", and whose exposure is an act one can grep for.
//
// What never lives here: encryption, locked memory (see seal) and any knowledge
// of what the secret is for. Start reading at Bytes.
package redact

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
	"runtime"
)

// Text is what every printed or encoded secret shows in place of its bytes.
const Text = "[redacted]"

// Bytes is a secret. Copies of a Bytes share one backing array, so wiping any
// of them wipes them all. The zero value is an empty secret.
//
// The bytes hang behind two pointers on purpose. Package fmt does not call
// methods of unexported fields and would spell a secret out when a struct that
// holds one is printed; behind one pointer it still does so for a verb that does
// not fit (%s). A reflecting dumper that follows pointers can reach them.
type Bytes struct{ p **secret }

type secret struct{ b []byte }

// New makes a secret of b and takes ownership of it: the caller must neither
// change nor keep the slice.
func New(b []byte) Bytes {
	s := &secret{b}
	return Bytes{&s}
}

// Expose returns the secret itself, not a copy. The slice stays owned by b and
// is zero after Wipe; the caller must not change it.
func (b Bytes) Expose() []byte {
	if b.p == nil {
		return nil
	}
	return (*b.p).b
}

// Len returns the number of bytes; lengths are not secret here.
func (b Bytes) Len() int { return len(b.Expose()) }

// Equal tells whether both secrets hold the same bytes, in a time that depends
// on their lengths only.
func (b Bytes) Equal(other Bytes) bool {
	return subtle.ConstantTimeCompare(b.Expose(), other.Expose()) == 1
}

// Wipe overwrites the secret with zeros, in every copy of b. The length stays.
func (b Bytes) Wipe() { Wipe(b.Expose()) }

// String returns Text.
func (b Bytes) String() string { return Text }

// GoString returns Text, for %#v.
func (b Bytes) GoString() string { return Text }

// Format writes Text whatever the verb.
func (b Bytes) Format(f fmt.State, _ rune) {
	// A fmt.State reports no useful error: fmt's own writer never fails.
	_, _ = f.Write([]byte(Text))
}

// MarshalJSON encodes Text; a secret has no encoding to come back from.
func (b Bytes) MarshalJSON() ([]byte, error) { return []byte(`"` + Text + `"`), nil }

// MarshalText encodes Text, which serves YAML, XML and most other encoders.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(Text), nil }

// LogValue shows Text in a structured log.
func (b Bytes) LogValue() slog.Value { return slog.StringValue(Text) }

// Wipe overwrites b with zeros. Copies that the runtime or a library made are
// out of reach; see seal/DESIGN.md for what that means.
func Wipe(b []byte) {
	clear(b)
	runtime.KeepAlive(b) // the stores must happen although nobody reads them
}
