package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-secrets/conclave/client"
)

// revealed shows fields with their kinds, for comparison.
func revealed(d client.Data) map[string]string {
	names := map[client.Kind]string{client.KindText: "text", client.KindBinary: "binary", client.KindJSON: "json"}
	out := map[string]string{}
	for name, v := range d {
		out[name] = fmt.Sprintf("%s %q", names[v.Kind()], v.Reveal())
	}
	return out
}

func parserWith(files map[string]string, stdin string) *fieldParser {
	return &fieldParser{stdin: strings.NewReader(stdin), data: client.Data{}, readFile: func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	}}
}

// Every form of a field gives the value and the kind that the help promises.
func TestFieldForms(t *testing.T) {
	files := map[string]string{
		"text": "line\n", "bytes": "\x00\xff",
		"doc.json": `{"s":"x","n":5,"null":null,"list":[1,"2"],"b":{"$binary":"AP8="},"object":{"$binary":"AP8=","more":1}}`,
	}
	for arg, want := range map[string]map[string]string{
		`k=v`:        {"k": `text "v"`},
		`k=`:         {"k": `text ""`},
		`k=a=b`:      {"k": `text "a=b"`},
		`k=@text`:    {"k": `text "line\n"`},
		`k=@bytes`:   {"k": `binary "\x00\xff"`},
		`k=-`:        {"k": `text "from stdin"`},
		`k=\@v`:      {"k": `text "@v"`},
		`k=\-`:       {"k": `text "-"`},
		`k=\v`:       {"k": `text "\\v"`},
		`k=--`:       {"k": `text "--"`},
		`k:=5`:       {"k": `json "5"`},
		`k:={"a":1}`: {"k": `json "{\"a\":1}"`},
		"k=\xff":     {"k": `binary "\xff"`},
		`@doc.json`: {"s": `text "x"`, "n": `json "5"`, "null": `json "null"`, "list": `json "[1,\"2\"]"`,
			"b": `binary "\x00\xff"`, "object": `json "{\"$binary\":\"AP8=\",\"more\":1}"`},
	} {
		p := parserWith(files, "from stdin")
		if err := p.parse(arg); err != nil {
			t.Errorf("%s: %v", arg, err)
			continue
		}
		if d := cmp.Diff(want, revealed(p.data)); d != "" {
			t.Errorf("%s: (-want +got)\n%s", arg, d)
		}
	}
}

// Mistakes are usage errors, and none shows what may be a secret.
func TestFieldMistakesKeepSecrets(t *testing.T) {
	files := map[string]string{"bad.json": `{"k": {"$binary": "swordfish!"}}`, "broken.json": `{"k": swordfish`}
	for _, arg := range []string{"swordfish", "=swordfish", "k:=swordfish", "@bad.json", "@broken.json", "@none", "k=@none"} {
		err := parserWith(files, "").parse(arg)
		if exitCode(err) != exitUsage {
			t.Errorf("%s: exit code %d, want %d (%v)", arg, exitCode(err), exitUsage, err)
		}
		if err != nil && strings.Contains(err.Error()+hint(err), "swordfish") {
			t.Errorf("%s: the error shows the value: %v", arg, err)
		}
	}
	if err := parserWith(files, "").parse("k=@none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

// What "get --format json" shows, "put @FILE" takes back.
func TestDataViewRoundTrip(t *testing.T) {
	data := client.Data{"t": client.Text("x"), "b": client.Binary([]byte{0, 255}), "j": client.JSON([]byte(`{"a":[1,null]}`)), "s": client.Text("12")}
	var shown strings.Builder
	inv := &invocation{streams: streams{out: &shown}, format: formatJSON}
	if err := inv.render(dataView(data), nil); err != nil {
		t.Fatal(err)
	}
	p := parserWith(map[string]string{"shown": shown.String()}, "")
	if err := p.parse("@shown"); err != nil {
		t.Fatal(err)
	}
	want, got := revealed(data), revealed(p.data)
	want["j"] = strings.Join(strings.Fields(strings.ReplaceAll(want["j"], `\n`, "")), " ")
	got["j"] = strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(got["j"], `\n`, ""), " ", ""), "json", "json ")
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// YAML quotes text that would read as something else.
func TestYAMLKeepsTypes(t *testing.T) {
	var shown strings.Builder
	inv := &invocation{streams: streams{out: &shown}, format: formatYAML}
	view := map[string]any{"a": "12", "b": 12, "c": "true", "d": "x: y", "e": "line\nline", "f": "", "g": nil}
	if err := inv.render(view, nil); err != nil {
		t.Fatal(err)
	}
	want := "a: \"12\"\nb: 12\nc: \"true\"\nd: 'x: y'\ne: |-\n  line\n  line\nf: \"\"\ng: null\n"
	if shown.String() != want {
		t.Errorf("got\n%s\nwant\n%s", shown.String(), want)
	}
}

// Control characters cannot move the cursor of who reads a table.
func TestPrintableQuotesControls(t *testing.T) {
	for in, want := range map[string]string{"plain é": "plain é", "a\x1b[2J": `"a\x1b[2J"`, "a\nb": `"a\nb"`, "\u009b": `"\u009b"`} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %s, want %s", in, got, want)
		}
	}
}
