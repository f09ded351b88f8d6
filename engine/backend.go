package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// A Backend is a type of engine, or of auth method, that can be mounted. It has
// no state of its own: all there is lies in its mounts.
type Backend interface {
	// Type is the name in "conclave secrets enable TYPE".
	Type() string
	// Summary says in a line what it is for.
	Summary() string
	// Routes is the table of a mount with the given options. An InvalidError
	// says that the options make no sense.
	Routes(options map[string]string) ([]Route, error)
}

// formatJSON opens every record that PutJSON writes: the format's number.
const formatJSON = 0x01

// PutJSON stages v as a record: a format byte, then JSON.
func PutJSON(tx Tx, path Path, v any) error {
	p, err := EncodeJSON(v)
	if err != nil {
		return err
	}
	return tx.PutRecord(path, p)
}

// EncodeJSON is what PutJSON stages, for PutExpiring and PutOwned.
func EncodeJSON(v any) ([]byte, error) {
	p, err := appendJSON([]byte{formatJSON}, v)
	if err != nil {
		return nil, fmt.Errorf("encoding a record: %w", err)
	}
	return p, nil
}

// MarshalJSON encodes v as json.Marshal does, but leaves an Object's values as they
// were written: < stays <.
func MarshalJSON(v any) ([]byte, error) { return appendJSON(nil, v) }

func appendJSON(p []byte, v any) ([]byte, error) {
	buf := bytes.NewBuffer(p)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// GetJSON reads the record at path into v, a pointer, and tells whether it is
// there. The record is guarded as Tx.Record does.
func GetJSON(tx Tx, path Path, v any) (bool, error) {
	p, err := tx.Record(path)
	if err != nil || p == nil {
		return false, err
	}
	return true, DecodeJSON(p, v)
}

// DecodeJSON reads what EncodeJSON made into v, a pointer.
func DecodeJSON(p []byte, v any) error {
	if len(p) == 0 || p[0] != formatJSON {
		return fmt.Errorf("reading a record: its format is not one this version knows")
	}
	if err := json.Unmarshal(p[1:], v); err != nil {
		// The text of the error may quote the record.
		return fmt.Errorf("reading a record: it is damaged")
	}
	return nil
}
