package testprocess_test

import (
	"encoding/base32"
	"strings"
	"testing"
)

// shareValue is the 32 bytes in the text of a share.
func shareValue(t *testing.T, text string) []byte {
	t.Helper()
	fields := strings.Split(text, "-")
	letters := strings.ToUpper(strings.Join(fields[5:len(fields)-1], ""))
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(letters)
	if err != nil || len(raw) != 32 {
		t.Fatalf("a share has an unexpected value of %d bytes: %v", len(raw), err)
	}
	return raw
}
