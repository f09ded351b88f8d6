package engine

import (
	"encoding/json"
	"strings"
	"testing"
)

// What is stored can be read back as it was written; what cannot is refused, and
// the refusal quotes nothing.
func TestCheckJSON(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, good := range []string{
		`1`, `1e400`, `12345678901234567890123`, `"x"`, `null`, `{"a":[1,{"b":"]["}]}`, `"\"[[["`, `"\\"`,
		`"\ud83d\ude00"`, `"\uD83D\uDE00x"`, `"\\ud800"`, `"\u00e9"`, `"` + "\ufffd" + `"`, nested(MaxDepth),
		`[` + strings.Repeat(`{},`, 1000) + `{}]`,
	} {
		if err := CheckJSON([]byte(good)); err != nil {
			t.Errorf("%.40s is refused: %v", good, err)
		}
	}
	for bad, why := range map[string]string{
		``:                   "a value is not valid JSON",
		`{"canary`:           "a value is not valid JSON",
		`1 2`:                "a value is not valid JSON",
		"\"canary\xff\"":     "a value is not valid UTF-8",
		`"\ud800"`:           "a value has half a surrogate pair in a text",
		`"\udc00\ud800"`:     "a value has half a surrogate pair in a text",
		`"\ud800x\udc00"`:    "a value has half a surrogate pair in a text",
		`"\ud800\n"`:         "a value has half a surrogate pair in a text",
		`"\ud800\u0041"`:     "a value has half a surrogate pair in a text",
		`{"\uDBFF":1}`:       "a value has half a surrogate pair in a text",
		nested(MaxDepth + 1): "a value nests deeper than 300",
		strings.Repeat(`{"a":`, 301) + `1` + strings.Repeat(`}`, 301): "a value nests deeper than 300",
	} {
		if err := CheckJSON([]byte(bad)); err == nil || err.Error() != why {
			t.Errorf("%.40s: got %v, want %s", bad, err, why)
		}
	}
	if err := CheckObject(Object{"a": json.RawMessage(`1`), "b": json.RawMessage(`{`)}); err == nil {
		t.Error("an object with a value that is not JSON is accepted")
	}
	if err := CheckObject(Object{"\xff": json.RawMessage(`1`)}); err == nil {
		t.Error("an object with a name that is not UTF-8 is accepted")
	}
}

// CheckJSON agrees with encoding/json: what it accepts comes back from a decoder
// without a replacement character that was not there.
func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`"\ud83d\ude00"`, `"\ud800"`, `{"a":"\\\ud800"}`, `[["\u0041"]]`, `"\ud800\ud800\udc00"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if CheckJSON(raw) != nil {
			return
		}
		var v any
		if err := json.Unmarshal(raw, &v); err != nil && !strings.Contains(err.Error(), "number") {
			t.Fatalf("%q is accepted and cannot be read: %v", raw, err)
		}
		if out, err := json.Marshal(v); err == nil && strings.ContainsRune(string(out), '\ufffd') &&
			!strings.Contains(strings.ToLower(string(raw)), `\ufffd`) && !strings.ContainsRune(string(raw), '\ufffd') {
			t.Errorf("%q is accepted and comes back as %q", raw, out)
		}
	})
}
