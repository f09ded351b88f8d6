package redact_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/internal/redact"
)

const canary = "canary-7f3a"

type outer struct {
	Public  redact.Bytes
	private redact.Bytes
}

// However a secret is printed, alone or inside something, it does not show.
func TestNothingPrintsASecret(t *testing.T) {
	s := redact.New([]byte(canary))
	o := outer{s, s}
	if o.private.Len() != len(canary) {
		t.Fatal("the private field lost its bytes")
	}
	var out bytes.Buffer
	for _, v := range []any{s, &s, o, &o, []redact.Bytes{s}, map[string]redact.Bytes{"k": s}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%08b", "%t"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("text", "secret", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "secret", v)
	}
	if err := xml.NewEncoder(&out).Encode(o); err != nil {
		t.Fatal(err)
	}
	got := strings.ToLower(out.String())
	if !strings.Contains(got, redact.Text) {
		t.Errorf("output never shows %q", redact.Text)
	}
	for _, form := range []string{canary, fmt.Sprintf("%x", canary), fmt.Sprint([]byte(canary)), "99 97 110"} {
		if strings.Contains(got, form) {
			t.Errorf("output shows the secret as %q", form)
		}
	}
}

// Wiping one copy wipes the bytes under all of them.
func TestWipe(t *testing.T) {
	s := redact.New([]byte(canary))
	other := s
	s.Wipe()
	if got := other.Expose(); !bytes.Equal(got, make([]byte, len(canary))) {
		t.Error("the copy still holds bytes after Wipe")
	}
}

// Equality looks at the bytes and the length; the zero value is empty.
func TestEqual(t *testing.T) {
	a, b, c := redact.New([]byte("x")), redact.New([]byte("x")), redact.New([]byte("y"))
	if !a.Equal(b) || a.Equal(c) || a.Equal(redact.Bytes{}) {
		t.Error("Equal is wrong")
	}
	if n := (redact.Bytes{}).Len(); n != 0 {
		t.Errorf("zero value has length %d, want 0", n)
	}
}
