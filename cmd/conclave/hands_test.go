package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-secrets/conclave/client"
)

// world is an invocation whose outside is in memory.
func world(t *testing.T, in string, env map[string]string) (inv *invocation, out, stderr *bytes.Buffer) {
	t.Helper()
	out, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	inv = &invocation{format: formatTable, streams: streams{
		in: strings.NewReader(in), out: out, err: stderr,
		env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}}
	return inv, out, stderr
}

// The token comes from the strongest place that has one, and a stored one that
// others may read is refused.
func TestWhereTheTokenComesFrom(t *testing.T) {
	home := t.TempDir()
	file := filepath.Join(home, "named")
	if err := os.WriteFile(file, []byte(" from-file \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"CONCLAVE_HOME": filepath.Join(home, "made")}
	inv, _, _ := world(t, "", env)
	want := func(text, source string) {
		t.Helper()
		got, err := inv.token()
		if err != nil || got.Reveal() != text || inv.tokenSource() != source {
			t.Errorf("got %q from %q, %v; want %q from %q", got.Reveal(), inv.tokenSource(), err, text, source)
		}
	}
	want("", "")
	path, err := inv.storeToken(client.NewToken("stored"))
	if err != nil || path != filepath.Join(home, "made", "token") {
		t.Fatal(path, err)
	}
	want("stored", "")
	env["CONCLAVE_TOKEN"] = "from-env\n"
	want("from-env", "CONCLAVE_TOKEN")
	inv.tokenFile = file
	want("from-file", "--token-file")
	inv.tokenFile, env["CONCLAVE_TOKEN"] = "", " "
	want("stored", "")

	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("stored with mode %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("in a directory of mode %v, %v", info.Mode(), err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("%d files beside the token, %v", len(left)-1, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := inv.token(); exitCode(err) != exitUsage || !strings.Contains(err.Error(), "others may read") {
		t.Errorf("got %v", err)
	}
	inv, _, _ = world(t, "", map[string]string{"HOME": home})
	if got, want := inv.tokenPath(), filepath.Join(home, ".config", "conclave", "token"); got != want {
		t.Errorf("stored in %s, want %s", got, want)
	}
	inv, _, _ = world(t, "", nil)
	want("", "")
	if _, err := inv.storeToken(client.NewToken("x")); !errors.Is(err, errNoHome) {
		t.Errorf("got %v", err)
	}
}

// A credential comes from where it does not show, loses its line end and nothing
// else, and is never in an error.
func TestCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte(" sword fish \r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ in, source, want string }{
		{"sword\n", "", "sword"}, {"sword", "-", "sword"}, {"", "@" + file, " sword fish "}, {"a\nb\n\n", "", "a\nb"},
	} {
		inv, _, _ := world(t, test.in, nil)
		if got, err := inv.credential("password", test.source); err != nil || got != test.want {
			t.Errorf("%+v: got %q, %v", test, got, err)
		}
	}
	for _, test := range []struct{ in, source, want string }{
		{"", "swordfish", "a password is never an argument"},
		{"\n", "", "no password was given"},
		{strings.Repeat("swordfish", 10000), "", "longer than"},
		{"", "@/nowhere", "no such file"},
	} {
		inv, _, stderr := world(t, test.in, nil)
		_, err := inv.credential("password", test.source)
		if exitCode(err) != exitUsage || !strings.Contains(err.Error(), test.want) || hint(err) == "" {
			t.Errorf("%q: got %v, hint %q", test.source, err, hint(err))
		}
		if strings.Contains(err.Error()+hint(err)+stderr.String(), "swordfish") {
			t.Error("the error shows it")
		}
	}
	inv, _, stderr := world(t, "", nil)
	inv.inIsTerminal = true
	inv.readHidden = func(context.Context) ([]byte, error) { return []byte("swordfish"), nil }
	if got, err := inv.credential("password", ""); err != nil || got != "swordfish" || stderr.String() != "Password (not shown): \n" {
		t.Errorf("got %q, %v after %q", got, err, stderr)
	}
}

// What ends for good is asked about; only yes is yes, and where nobody can be
// asked it must be said.
func TestConfirm(t *testing.T) {
	for in, want := range map[string]int{"yes\n": exitOK, "y\n": exitUsage, "no\n": exitUsage, "\n": exitUsage, "": exitUsage} {
		inv, _, stderr := world(t, in, nil)
		inv.inIsTerminal = true
		if err := inv.confirm(false, "ends it"); exitCode(err) != want || !strings.Contains(stderr.String(), "This ends it. Type yes") {
			t.Errorf("%q: %v after %q", in, err, stderr)
		}
	}
	inv, _, _ := world(t, "yes\n", nil)
	if err := inv.confirm(false, "ends it"); exitCode(err) != exitUsage || !strings.Contains(hint(err), "--yes") {
		t.Errorf("without a terminal: %v", err)
	}
	if err := inv.confirm(true, "ends it"); err != nil {
		t.Errorf("with --yes: %v", err)
	}
}

// A body carries what was written: text unescaped, documents as they are, big
// numbers whole.
func TestBodies(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.json")
	if err := os.WriteFile(file, []byte(`{"big": 12345678901234567890, "bin": {"$binary": "***"}, "t": "<x>"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		in   string
		args []string
		want body
	}{
		{"", nil, body{}},
		{"", []string{"k=<v>", "n:=1e400", `a=\@x`}, body{"k": raw(`"<v>"`), "n": raw(`1e400`), "a": raw(`"@x"`)}},
		{"", []string{"@" + file}, body{"big": raw(`12345678901234567890`), "bin": raw(`{"$binary": "***"}`), "t": raw(`"<x>"`)}},
		{`{"k": null}`, []string{"-"}, body{"k": raw("null")}},
		{"piped", []string{"k=-"}, body{"k": raw(`"piped"`)}},
	} {
		inv, _, stderr := world(t, test.in, nil)
		got, err := inv.parseBody(test.args)
		if err != nil || stderr.Len() > 0 {
			t.Errorf("%v: %v, %q", test.args, err, stderr)
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%v: %s", test.args, d)
		}
	}
	inv, _, stderr := world(t, "swordfish\n", nil)
	if _, err := inv.parseBody([]string{"password=-"}); err != nil || !strings.Contains(stderr.String(), "line end") || strings.Contains(stderr.String(), "swordfish") {
		t.Errorf("a line end at the end is told as %q, %v", stderr, err)
	}
	inv, _, _ = world(t, "{}", nil)
	if _, err := inv.parseBody([]string{"-", "k=-"}); exitCode(err) != exitUsage {
		t.Errorf("standard input twice: %v", err)
	}
}

func raw(s string) json.RawMessage { return json.RawMessage(s) }

// The answers of the API in every format; warnings go beside them.
func TestAnswersAreRendered(t *testing.T) {
	data := client.JSON([]byte(`{"text":"a\u001bb","nested":{"a":[1,2]},"big":12345678901234567890,"none":null}`))
	at := time.Unix(1e9, 0)
	for _, test := range []struct {
		name   string
		answer client.Answer
		field  string
		code   int
		want   string
	}{
		{"data", client.Answer{Data: data}, "", 0, "big     12345678901234567890\nnested  {\"a\":[1,2]}\nnone    -\ntext    \"a\\x1bb\"\n"},
		{"names", client.Answer{Data: client.JSON([]byte(`{"keys":["a","b/"]}`))}, "", 0, "a\nb/\n"},
		{"nothing", client.Answer{}, "", 0, "wrote it\n"},
		{"a field of text", client.Answer{Data: data}, "text", 0, "a\x1bb"},
		{"a field of JSON", client.Answer{Data: data}, "nested", 0, `{"a":[1,2]}`},
		{"no such field", client.Answer{Data: data}, "nested2", exitNotFound, ""},
		{"a field of nothing", client.Answer{}, "x", exitNotFound, ""},
		{"missing", client.Answer{Data: client.JSON([]byte(`{"k":"v"}`)), Missing: true}, "", exitNotFound, "k  v\n"},
		{"missing, with nothing to say", client.Answer{Missing: true}, "", exitNotFound, ""},
		{"a token", client.Answer{Auth: &client.Auth{Token: client.NewToken("hvs.x"), Accessor: "acc", Policies: []string{"a", "b"}, LeaseDuration: time.Hour, Type: "service", NumUses: 2, Metadata: map[string]string{"k": "v"}}}, "", 0,
			"token       hvs.x\naccessor    acc\npolicies    a, b\nexpires in  1h0m0s\nrenewable   no\ntype        service\norphan      no\nuses left   2\nmetadata k  v\n"},
		{"the token of it", client.Answer{Auth: &client.Auth{Token: client.NewToken("hvs.x")}}, "token", 0, "hvs.x"},
		{"wrapped", client.Answer{Wrap: &client.WrapInfo{Token: client.NewToken("hvs.w"), Accessor: "wa", TTL: time.Minute, CreatedAt: at, CreationPath: "p"}}, "", 0,
			"wrapping token     hvs.w\nwrapping accessor  wa\nwrapping ttl       1m0s\ncreated            2001-09-09T01:46:40Z\ncreation path      p\n"},
		{"the token of the wrapping", client.Answer{Wrap: &client.WrapInfo{Token: client.NewToken("hvs.w")}}, "token", 0, "hvs.w"},
		{"with a lease", client.Answer{Data: client.JSON([]byte(`{"k":"v"}`)), LeaseID: "l", LeaseDuration: time.Minute, Renewable: true}, "", 0,
			"lease id         l\nlease duration   1m0s\nlease renewable  yes\nk                v\n"},
	} {
		inv, out, stderr := world(t, "", nil)
		test.answer.Warnings = []string{"beware\x1b"}
		err := inv.renderAnswer(&test.answer, "wrote it", test.field)
		if exitCode(err) != test.code || out.String() != test.want {
			t.Errorf("%s: %v, got\n%s\nwant\n%s", test.name, err, out, test.want)
		}
		if stderr.String() != "warning: \"beware\\x1b\"\n" {
			t.Errorf("%s: the warning is %q", test.name, stderr)
		}
	}
	inv, out, _ := world(t, "", nil)
	inv.format = formatJSON
	if err := inv.renderAnswer(&client.Answer{Data: data, Index: 3}, "", ""); err != nil {
		t.Fatal(err)
	}
	var view struct {
		Data  map[string]json.RawMessage
		Index uint64
	}
	if err := json.Unmarshal(out.Bytes(), &view); err != nil || string(view.Data["big"]) != "12345678901234567890" || view.Index != 3 {
		t.Errorf("%v: %s", err, out)
	}
}

// A token to be made is asked for as it was said, and no more.
func TestTokenRequests(t *testing.T) {
	for _, test := range []struct {
		flags createFlags
		path  string
		want  map[string]any
	}{
		{createFlags{}, "auth/token/create", map[string]any{"no_default_policy": false, "renewable": true}},
		{createFlags{orphan: true, policies: []string{"a"}, ttl: time.Hour, uses: 3, metadata: []string{"k=v=w"}, notRenewable: true}, "auth/token/create-orphan",
			map[string]any{"no_default_policy": false, "renewable": false, "policies": []string{"a"}, "ttl": "1h0m0s", "num_uses": uint64(3), "meta": map[string]string{"k": "v=w"}}},
		{createFlags{role: "r", kind: "batch", displayName: "d", period: time.Second, explicitMax: time.Minute}, "auth/token/create/r",
			map[string]any{"no_default_policy": false, "renewable": true, "no_parent": false, "type": "batch", "display_name": "d", "period": "1s", "explicit_max_ttl": "1m0s"}},
	} {
		path, got, err := test.flags.request()
		if err != nil || path != test.path {
			t.Errorf("%s: %v", path, err)
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s: %s", path, d)
		}
	}
	for _, bad := range []createFlags{{ttl: -1}, {metadata: []string{"k"}}, {metadata: []string{"=v"}}, {metadata: []string{"k=1", "k=2"}}} {
		if _, _, err := bad.request(); exitCode(err) != exitUsage {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A rewritten file keeps its mode and the link that leads to it; what cannot be
// rewritten stays.
func TestRewriteFile(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "f"), filepath.Join(dir, "l")
	if err := errors.Join(os.WriteFile(file, []byte("old"), 0o640), os.Symlink("f", link)); err != nil {
		t.Fatal(err)
	}
	if err := rewriteFile(link, []byte("new")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	info, serr := os.Lstat(file)
	if err := errors.Join(err, serr); err != nil || string(text) != "new" || info.Mode() != 0o640 {
		t.Errorf("%q, %v, %v", text, info, err)
	}
	if target, err := os.Readlink(link); err != nil || target != "f" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	if err := rewriteFile(filepath.Join(dir, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("%d files, want 2: %v", len(left), err)
	}
}
