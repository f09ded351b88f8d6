package auth

import (
	"encoding/json"
	"strings"

	"github.com/conclave-secrets/conclave/engine"
)

// Limits on metadata: each token carries it.
const (
	maxMetadataKeys  = 64
	maxMetadataKey   = 128 // bytes
	maxMetadataValue = 512 // bytes
)

// Metadata is a map of texts in a request. It may come as engine.Map does, and as
// a text that holds a JSON object, which is how older clients send it.
type Metadata map[string]string

// UnmarshalJSON implements json.Unmarshaler. Its errors quote nothing.
func (m *Metadata) UnmarshalJSON(p []byte) error {
	var text string
	if json.Unmarshal(p, &text) == nil && strings.HasPrefix(strings.TrimSpace(text), "{") {
		p = []byte(text)
	}
	return (*engine.Map)(m).UnmarshalJSON(p)
}

// Check refuses metadata that is out of bounds, with an engine.InvalidError.
func (m Metadata) Check() error {
	if len(m) > maxMetadataKeys {
		return &engine.InvalidError{Why: "metadata has more than 64 keys"}
	}
	for k, v := range m {
		if k == "" || len(k) > maxMetadataKey || len(v) > maxMetadataValue {
			return &engine.InvalidError{Why: "a key of the metadata has more than 128 bytes or none, or a value more than 512"}
		}
	}
	return nil
}
