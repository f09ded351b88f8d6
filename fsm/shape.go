package fsm

import (
	"encoding/binary"
	"fmt"
)

// checkRow tells whether a row is one that this version could have written: a
// table it knows, a key of that table's form, a value that decodes. Restore asks
// it about every row before the row can become the state, so that nobody finds
// out later, in the middle of an entry.
func checkRow(k, v []byte) error {
	if len(k) == 0 {
		return fmt.Errorf("row without a key: %w", errRow)
	}
	table, rest := k[0], k[1:]
	if err := checkRowKey(table, rest); err != nil {
		return err
	}
	switch table {
	case tableRecord:
		_, err := decodeRecord(v)
		return err
	case tableHead:
		_, err := decodeHead(v)
		return err
	case tableVersion:
		_, err := decodeVersion(v)
		return err
	case tableLease:
		_, err := decodeLease(v)
		return err
	case tableQueue:
		_, err := decodePending(v)
		return err
	case tableSession:
		_, err := decodeSession(v)
		return err
	case tableAnswers:
		_, err := decodeAnswers(binary.BigEndian.Uint64(rest[len(SessionID{}):]), v)
		return err
	case tableSpace:
		r := openRow(v)
		r.uint()
		return r.end("space revision")
	case tableTally, tableUndone:
		_, err := decodeCount(v)
		return err
	}
	return openRow(v).end("index") // the indexes have only keys
}

func checkRowKey(table byte, rest []byte) error {
	switch table {
	case tableRecord, tableHead, tableLease, tableTally, tableUndone:
		return checkKey(rest)
	case tableRecordByLease, tableByOwner, tableByGroup, tableByEffect:
		return checkCounted(rest, 1, MaxKeySize)
	case tableVersion:
		return checkCounted(rest, 8, 8)
	case tableByExpiry:
		if len(rest) <= 8 {
			return fmt.Errorf("expiry index %w", errRow)
		}
		return checkKey(rest[8:])
	case tableSpace:
		return checkLength("space", rest, 1)
	case tableQueue:
		return checkLength("queue", rest, 8)
	case tableSession:
		return checkLength("session", rest, len(SessionID{}))
	case tableAnswers:
		return checkLength("answers", rest, len(SessionID{})+8)
	}
	return fmt.Errorf("table %q is not one this version knows", table)
}

func checkLength(what string, rest []byte, want int) error {
	if len(rest) != want {
		return fmt.Errorf("key of %s %w: %d bytes, not %d", what, errRow, len(rest), want)
	}
	return nil
}

// checkCounted checks a key that starts with a counted one, which is followed
// by least to most bytes.
func checkCounted(rest []byte, least, most int) error {
	if len(rest) < 2 {
		return fmt.Errorf("index key %w", errRow)
	}
	n := int(binary.BigEndian.Uint16(rest))
	if tail := len(rest) - 2 - n; n == 0 || n > MaxKeySize || tail < least || tail > most {
		return fmt.Errorf("index key %w", errRow)
	}
	return nil
}
