package kv

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/conclave-secrets/conclave/engine"
)

// merge applies a JSON merge patch (RFC 7396) to the data of a secret: null
// removes a member, an object is merged into what is there, anything else
// replaces it. What the patch does not name keeps the very bytes it had.
// Both are checked (engine.CheckObject); target is changed.
func merge(target, patch engine.Object) error {
	for name, raw := range patch {
		switch {
		case string(raw) == "null":
			delete(target, name)
		case raw[0] != '{':
			target[name] = raw
		default:
			merged, err := mergeMember(target[name], raw)
			if err != nil {
				return err
			}
			target[name] = merged
		}
	}
	return nil
}

// mergeMember merges an object into a member, which may be nil or no object.
// Both are decoded once, as a whole: to do it level by level would read what
// lies deepest once for every level above it.
func mergeMember(old, patch json.RawMessage) (json.RawMessage, error) {
	var into any
	if len(old) > 0 && old[0] == '{' {
		if err := decodeExactly(old, &into); err != nil {
			return nil, err
		}
	}
	var with any
	if err := decodeExactly(patch, &with); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(mergeValue(into, with)); err != nil {
		return nil, fmt.Errorf("encoding a patched field: %w", err)
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// decodeExactly decodes a value that was checked, numbers as they are written.
func decodeExactly(raw json.RawMessage, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return &engine.InvalidError{Why: "a value is not valid JSON"}
	}
	return nil
}

// mergeValue is MergePatch of RFC 7396, section 2. It recurses no deeper than
// engine.MaxDepth.
func mergeValue(target, patch any) any {
	with, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	into, ok := target.(map[string]any)
	if !ok {
		into = map[string]any{}
	}
	for name, value := range with {
		if value == nil {
			delete(into, name)
			continue
		}
		into[name] = mergeValue(into[name], value)
	}
	return into
}
