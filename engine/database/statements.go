package database

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/conclave-secrets/conclave/engine"
)

// maxStatementBytes bounds the statements of one field: those that undo are kept with
// each lease.
const maxStatementBytes = 8 << 10

// Statements are a list of texts with one or more statements each, or one such text.
type Statements []string

// UnmarshalJSON implements json.Unmarshaler.
func (s *Statements) UnmarshalJSON(p []byte) error {
	*s = Statements{}
	var list []engine.Text
	if len(p) > 0 && p[0] == '[' {
		if err := json.Unmarshal(p, &list); err != nil {
			return fmt.Errorf("is no list of statements")
		}
	} else {
		var text engine.Text
		if err := text.UnmarshalJSON(p); err != nil {
			return fmt.Errorf("is no list of statements")
		}
		list = append(list, text)
	}
	size := 0
	for _, e := range list {
		if text := strings.TrimSpace(string(e)); text != "" {
			*s = append(*s, text)
			size += len(text)
		}
	}
	if size > maxStatementBytes {
		return fmt.Errorf("has more than %d bytes", maxStatementBytes)
	}
	return nil
}

// MarshalJSON prints an array, never null.
func (s Statements) MarshalJSON() ([]byte, error) {
	if s == nil {
		return []byte("[]"), nil
	}
	return engine.MarshalJSON([]string(s))
}
