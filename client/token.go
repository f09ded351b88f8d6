package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// A Token is a credential. It prints, logs and marshals as redacted; Reveal is
// the only way to its text.
type Token struct{ text string }

// NewToken wraps the text of a token.
func NewToken(text string) Token { return Token{text} }

// Reveal returns the text of the token. Whoever calls it must not log it.
func (t Token) Reveal() string { return t.text }

// errToken does not repeat the token.
var errToken = errors.New("configuring client: the token holds a character that none has: white space, a control character or one beyond ASCII")

// check refuses what cannot travel in a header (RFC 9110, 5.5).
func (t Token) check() error {
	for i := range len(t.text) {
		if c := t.text[i]; c <= ' ' || c > '~' {
			return errToken
		}
	}
	return nil
}

// IsZero reports whether there is no token.
func (t Token) IsZero() bool { return t.text == "" }

// Format prints a redacted token for every verb.
func (t Token) Format(f fmt.State, _ rune) { printRedacted(f) }

// LogValue logs a redacted token.
func (t Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText marshals a redacted token, so that a configuration which is
// dumped shows nothing.
func (t Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// printRedacted ignores the result of the write like fmt does: a Formatter has
// nobody to tell.
func printRedacted(w io.Writer) { _, _ = io.WriteString(w, redacted) }

// bearer attaches a token to a call.
type bearer struct{ token Token }

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token.Reveal()}, nil
}

// RequireTransportSecurity makes gRPC refuse to send the token in the clear.
func (b bearer) RequireTransportSecurity() bool { return true }
