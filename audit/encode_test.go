package audit

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/conclave-secrets/conclave/internal/invariant"
)

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// decode reads an encoded body with encoding/json, the other opinion.
func decode(t testing.TB, body []byte) (r Record) {
	t.Helper()
	object := append(append([]byte("{"), body...), '}')
	d := json.NewDecoder(bytes.NewReader(object))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%v in %s", err, object)
	}
	return r
}

// Every field of an entry comes back through encoding/json; the accessors and values
// come back as hashes.
func TestEntryRoundTrip(t *testing.T) {
	e := entry("r1")
	e.Error = Failure{Class: "permission_denied", Text: "permission denied"}
	e.Wrap = Wrap{TTL: 90 * time.Second, Accessor: "wacc", CreationPath: "sys/wrapping/wrap"}
	e.Request = Data{Fields: []Field{{"token", []byte("s.secret")}}}
	e.Response = Data{JSON: []byte(`{"n": 17}`)}
	got := decode(t, e.body(nil, "n1", testTime, testHasher))
	want := Record{
		Type: TypeAccess, Time: testTime, Node: "n1", RequestID: "r1",
		Auth:      RecordAuth{HashValue(testHasher, []byte("acc-r1")), "userpass-ada", []string{"default", "team"}, "service", "e-1"},
		Operation: "read", Path: "secret/data/r1", Mount: "secret/", MountType: "kv", Remote: "192.0.2.1:4711",
		Reason: "TICKET-123", Consistency: "linearizable", Index: 42, Rule: Rule{Policy: "team", Pattern: "secret/data/*"},
		Outcome: OutcomeOK, Error: e.Error, Wrap: RecordWrap{90, HashValue(testHasher, []byte("wacc")), "sys/wrapping/wrap"},
		Request:  json.RawMessage(`{"token":"` + HashValue(testHasher, []byte("s.secret")) + `"}`),
		Response: json.RawMessage(`{"n":"` + HashValue(testHasher, []byte("17")) + `"}`),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	none := decode(t, (&Entry{Type: TypeRequest, Rule: Rule{None: true}}).body(nil, "n", testTime, testHasher))
	if !none.Rule.None {
		t.Errorf("rule %+v", none.Rule)
	}
}

// Text is what encoding/json reads back, and shows nothing that a terminal obeys or
// hides.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "plain", "\x00\x1b[2J\r\n\t\"\\", "\u009b31m", "a\u202eb\u2066", "\xff\xc3", "𝕏\U000e0001", "…", "\u2028\u200b\ufeff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendText(nil, s, 1<<20)
		var back string
		if err := json.Unmarshal(b, &back); err != nil || back != strings.ToValidUTF8(s, "\ufffd") && back != string([]rune(s)) {
			t.Fatalf("%q became %s, %q, %v", s, b, back, err)
		}
		for _, r := range string(b) {
			if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || r == 0x7f {
				t.Fatalf("%q shows %U", b, r)
			}
		}
		cut := appendText(nil, s, 7)
		if err := json.Unmarshal(cut, &back); err != nil || !utf8.ValidString(back) {
			t.Fatalf("%s: %v", cut, err)
		}
		if len(s) > 7 && !strings.HasSuffix(back, " bytes)") {
			t.Fatalf("%s does not say that it was cut", cut)
		}
	})
}

// hashed is the slow and obvious version of the walker, for data within all limits.
func hashed(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = hashed(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = hashed(x)
		}
		return out
	case nil:
		return nil
	case string:
		return HashValue(testHasher, []byte(v))
	default: // json.Number, bool
		return HashValue(testHasher, fmt.Append(nil, v))
	}
}

// Data of any shape becomes JSON; within the limits it is the hashed image of what
// encoding/json reads, and what encoding/json refuses is one hash.
func FuzzData(f *testing.F) {
	for _, s := range []string{
		`{"a":"b"}`, ` { "a" : [1, 2.5e-3, true, false, null, "x\n\u00e9\ud83d\ude00\ud800"] , "b":{}} `, `[]`, `"s"`, `17`, `-0`, `01`, `{`, `{"a":1,}`,
		`{"a" "b"}`, `{"a":tru}`, "{\"a\":\"\xff\"}", "{\"a\":\"\n\"}", `{"a":1}x`, `{"\u0000":1}`, `[1,2`, `{"a":"\x"}`, `{"a":"\ud800\ud800"}`, `{"a":1.}`, `null`, ` `,
		strings.Repeat("[", 40) + strings.Repeat("]", 40),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out := appendData([]byte("{"), `"x":`, "", &Data{JSON: b}, testHasher)
		var got struct{ X any }
		if len(b) == 0 {
			return
		}
		if err := json.Unmarshal(append(out, '}'), &got); err != nil {
			t.Fatalf("%q became %s: %v", b, out, err)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		var v any
		err := d.Decode(&v)
		_, malformed := asMap(got.X)[keyMalformed]
		if !json.Valid(b) || err != nil {
			if !malformed && depth(b) < maxDepth && len(out) < maxData {
				t.Fatalf("%q is not JSON and became %s", b, out)
			}
			return
		}
		if malformed && !bytes.Contains(b, []byte(keyMalformed)) {
			t.Fatalf("%q is JSON and became %s", b, out)
		}
		if depth(b) < maxDepth && len(out) < maxData && !longKeys(v) {
			if want := hashed(v); !reflect.DeepEqual(got.X, want) {
				t.Fatalf("%q\ngot  %v\nwant %v", b, got.X, want)
			}
		}
	})
}

func asMap(v any) map[string]any { m, _ := v.(map[string]any); return m }

func depth(b []byte) int { return bytes.Count(b, []byte("{")) + bytes.Count(b, []byte("[")) }

func longKeys(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if len(k) > maxKey || longKeys(x) {
				return true
			}
		}
	case []any:
		for _, x := range v {
			if longKeys(x) {
				return true
			}
		}
	}
	return false
}

// Exempt fields are in clear, whole, at the top level only, and stay one line.
func TestClearFields(t *testing.T) {
	d := Data{
		JSON:   []byte("{\"open\":{\"a\":[\"x\",\n1,true]},\"shut\":{\"open\":\"y\"},\"pem\":\"a\\nb\"}"),
		Fields: []Field{{"name", []byte("ada")}, {"key", []byte("k")}},
		Clear:  []string{"open", "name", "pem"},
	}
	got := string(appendData(nil, "", "", &d, testHasher))
	want := `{"name":"ada","key":"` + HashValue(testHasher, []byte("k")) + `","open":{"a":["x",1,true]},"shut":{"open":"` + HashValue(testHasher, []byte("y")) + `"},"pem":"a\nb"}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// However large, deep or strange an entry is, its record is valid JSON of bounded
// size.
func TestEntryBounds(t *testing.T) {
	huge := strings.Repeat("\x01é", 100_000)
	e := Entry{
		Type: TypeRequest, RequestID: huge, Operation: huge, Path: huge, Mount: huge, MountType: huge, Remote: huge, Reason: huge,
		Consistency: huge, Rule: Rule{Policy: huge, Pattern: huge}, Outcome: Outcome(huge), Error: Failure{huge, huge},
		Wrap: Wrap{Accessor: huge, CreationPath: huge}, Auth: Auth{huge, huge, make([]string, 1000), huge, huge},
	}
	for i := range e.Auth.Policies {
		e.Auth.Policies[i] = huge
	}
	var wide strings.Builder
	wide.WriteString(`{"k":[`)
	for i := range 50_000 {
		fmt.Fprintf(&wide, `{"key %d":"v"},`, i)
	}
	wide.WriteString(`1],"after":"x"}`)
	clearText, _ := json.Marshal(map[string]any{"open": strings.Split(strings.Repeat(huge[:9000]+",", 30), ",")})
	for name, d := range map[string]Data{
		"deep":   {JSON: []byte(strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000))},
		"wide":   {JSON: []byte(wide.String())},
		"key":    {JSON: []byte(`{"` + strings.Repeat("k", 1<<20) + `":1}`)},
		"clear":  {JSON: clearText, Clear: []string{"open"}},
		"fields": {Fields: make([]Field, 10_000)},
		"open":   {JSON: []byte(strings.Repeat("[", 1<<20))},
	} {
		e.Request, e.Response = d, d
		body := e.body(nil, "n", testTime, testHasher)
		if len(body) > maxBody {
			t.Errorf("%s: %d bytes", name, len(body))
		}
		r := decode(t, body)
		if string(r.Request) == `"audit:too_long"` {
			t.Errorf("%s: the data did not fit: the limits do not add up", name)
		}
		if n := depth(r.Request); name == "deep" && n != maxDepth || name == "open" && string(r.Request) != `{"`+keyMalformed+`":"`+HashValue(testHasher, d.JSON)+`"}` {
			t.Errorf("%s: %d deep: %.300s", name, n, r.Request)
		}
		if n := len([]rune(r.Reason)); n > maxReason+32 {
			t.Errorf("reason of %d characters", n)
		}
	}
}

// No value, token or accessor appears in a record, in any spelling one might expect.
func TestCanaries(t *testing.T) {
	fsys := newMemFS(1)
	var copied bytes.Buffer
	o := testOptions(fsys)
	o.Sinks = []Sink{{Name: "copy", Writer: NewStream(&copied)}}
	l := mustOpen(t, o)
	const canary = "cAnArY"
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 300 {
		secret := fmt.Sprintf("%s-%d", canary, rng.Uint64())
		quoted := jsonSpelling(rng, secret)
		e := entry(fmt.Sprint(i))
		e.Auth.Accessor, e.Wrap.Accessor = secret, secret
		shapes := []string{`{"a":%s}`, `[[[%s]]]`, `%s`, `{"a":{"b":[1,%s,{"c":%[1]s}]}}`, `{"a":%s`, `{"a":%s}}`, `{"a":%s x}`,
			strings.Repeat("[", 30) + "%s" + strings.Repeat("]", 30), `{"a":[` + strings.Repeat(`"filler",`, 900) + `%s]}`}
		e.Request = Data{JSON: fmt.Appendf(nil, shapes[i%len(shapes)], quoted)}
		e.Response = Data{JSON: []byte(quoted), Fields: []Field{{"a", []byte(secret)}}}
		if i%3 == 0 {
			e.Response = Data{Fields: []Field{{"a", []byte(secret)}}}
		}
		if err := l.Append(context.Background(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"file": string(fsys.bytes(testPath)), "copy": copied.String()} {
		if len(text) < 300*200 {
			t.Errorf("%s has %d bytes only", name, len(text))
		}
		for _, spelling := range []string{canary, hex.EncodeToString([]byte(canary)), "Y0FuQXJZ"} {
			if i := strings.Index(text, spelling); i >= 0 {
				t.Errorf("%s shows the canary: …%s…", name, text[max(0, i-80):i+80])
			}
		}
	}
	mustVerify(t, fsys)
}

// jsonSpelling spells s as a JSON string, some characters escaped.
func jsonSpelling(rng *rand.Rand, s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		if rng.IntN(8) == 0 {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String() + `"`
}

// The hash is RFC 2104's, test case 1 of RFC 4231 with the key padded by hand to the
// length that NewHasher demands: HMAC pads with zeros itself.
func TestHashValue(t *testing.T) {
	key := append(bytes.Repeat([]byte{0x0b}, 20), 0, 0)
	got := HashValue(NewHasher(key), []byte("Hi There"))
	if want := "hmac-sha256:b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Encoding a record allocates nothing once the buffer is warm.
func TestEncodeAllocations(t *testing.T) {
	if invariant.Enabled {
		t.Skip("the race detector empties pools at random")
	}
	e := entry("r1")
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(200, func() { buf = e.body(buf[:0], "n1", testTime, testHasher) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEncode(b *testing.B) {
	e := entry("r1")
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = e.body(buf[:0], "n1", testTime, testHasher)
	}
	b.SetBytes(int64(len(buf)))
}
