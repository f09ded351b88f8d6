package testprocess_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/conclave-secrets/conclave/internal/testprocess"
)

const appPolicy = `path "secret/data/app" {
  capabilities    = ["read"]
  required_reason = true
}
`

// A hand is a user at the command line: with a directory, a home for his token,
// and a node to speak to.
type hand struct {
	shell
	home string
}

func handOf(t *testing.T, n *testprocess.Node) hand {
	home := filepath.Join(t.TempDir(), "home")
	sh := shell{t: t, dir: t.TempDir(), env: []string{"CONCLAVE_ADDR=" + n.API, "CONCLAVE_CACERT=" + filepath.Join(n.DataDir, "ca.pem"), "CONCLAVE_HOME=" + home}}
	return hand{sh, home}
}

// at is the same user at another node.
func (h hand) at(n *testprocess.Node) hand {
	h.shell = h.with("CONCLAVE_ADDR="+n.API, "CONCLAVE_CACERT="+filepath.Join(n.DataDir, "ca.pem"))
	return h
}

func (h hand) file(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// does runs a command that must succeed and returns what it prints.
func (h hand) does(args ...string) string {
	h.t.Helper()
	got := h.run(args...)
	if got.code != 0 {
		h.t.Fatalf("conclave %s: exit code %d: %s%s", strings.Join(args, " "), got.code, got.out, got.err)
	}
	return got.out
}

// An administrator sets up a login and a policy; a user logs in at one node, uses
// his token at another, is refused, says why, and is told which rule decided.
func TestHandsOfTheCommandLine(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 3})
	admin, user := handOf(t, c.Nodes[0]), handOf(t, c.Nodes[1])
	admin.shell = admin.with("CONCLAVE_TOKEN=" + c.RootToken.Reveal())

	admin.file("app.hcl", appPolicy)
	admin.does("policy", "write", "app", "app.hcl")
	if got := admin.does("policy", "read", "app"); got != appPolicy {
		t.Errorf("the policy came back as %q", got)
	}
	admin.does("auth", "enable", "userpass")
	admin.file("password", "swordfish-1\n")
	admin.run("write", "auth/userpass/users/bob", "password=@password").wants(t, 0, "the line end belongs to the value", "!swordfish")
	admin.file("password", "swordfish-1")
	admin.does("write", "auth/userpass/users/alice", "password=@password", "token_policies=app", "token_ttl=1h")
	admin.does("kv", "put", "app", "k=v")

	user.input("wrong").run("login", "--method", "userpass", "username=alice").wants(t, 1, "invalid username or password", "!wrong")
	got := user.input("swordfish-1").run("login", "--method", "userpass", "username=alice")
	got.wants(t, 0, "token stored in", "app, default", "!swordfish", "!hvs.")
	stored, err := os.ReadFile(filepath.Join(user.home, "token"))
	if err != nil || !strings.HasPrefix(string(stored), "hvs.") {
		t.Fatalf("the stored token is no token: %v", err)
	}
	info, err := os.Stat(filepath.Join(user.home, "token"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode of the stored token is %v, %v", info.Mode(), err)
	}

	user = user.at(c.Nodes[2])
	user.run("kv", "get", "app").wants(t, 3, "permission denied", "--reason", "!app.hcl", "!required_reason")
	if got := user.does("kv", "get", "app", "--field", "k", "--reason", "TICKET-7 größer"); got != "v" {
		t.Errorf("with a reason: %q", got)
	}
	user.run("kv", "get", "other").wants(t, 3, "permission denied")
	user.run("policy", "explain", "read", "secret/data/app").wants(t, 3, "permission denied", "!pattern")
	if log, err := os.ReadFile(filepath.Join(c.Nodes[2].DataDir, "audit", "audit.log")); err != nil || !strings.Contains(string(log), `"reason":"TICKET-7 größer"`) {
		t.Errorf("the reason is not on record: %v", err)
	}

	accessor := user.does("token", "lookup", "--field", "accessor")
	if got := user.does("token", "lookup"); !strings.Contains(got, "userpass-alice") || strings.Contains(got, strings.TrimSpace(string(stored))) {
		t.Errorf("the look-up of the own token says\n%s", got)
	}
	why := func(code int, piece string, args ...string) {
		t.Helper()
		// A refusal that is explained is an answer, and no error.
		if got := admin.run(append([]string{"policy", "explain"}, args...)...); got.code != code || got.err != "" || !strings.Contains(got.out, piece) {
			t.Errorf("explain %v: exit code %d, want %d, and %q in\n%s%s", args, got.code, code, piece, got.out, got.err)
		}
	}
	why(3, "refused: read secret/data/app\n", "read", "secret/data/app", "--accessor", accessor)
	why(3, "requires a reason\n", "read", "secret/data/app", "--accessor", accessor)
	why(0, "allowed: read secret/data/app\n", "read", "secret/data/app", "--accessor", accessor, "--reason", "x")
	why(3, "no rule of any policy matches", "read", "secret/data/none", "--policy", "app")
	why(0, "grants everything", "read", "secret/data/none")
	if got := user.does("token", "capabilities", "secret/data/app", "sys/mounts", "--format", "json"); !strings.Contains(got, `"read"`) || !strings.Contains(got, `"deny"`) {
		t.Errorf("capabilities: %s", got)
	}

	user.does("logout")
	if _, err := os.Stat(filepath.Join(user.home, "token")); !os.IsNotExist(err) {
		t.Errorf("the token is still stored: %v", err)
	}
	admin.run("token", "lookup", accessor).wants(t, 1, "invalid accessor")
	user.run("kv", "get", "app").wants(t, 3, "no token", "conclave login")
}

// A token is made, handed over wrapped, used up, renewed and revoked, and a
// wrapped answer opens once.
func TestTokensByHand(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1})
	admin, user := handOf(t, c.Nodes[0]), handOf(t, c.Nodes[0])
	admin.shell = admin.with("CONCLAVE_TOKEN=" + c.RootToken.Reveal())
	admin.file("free.hcl", strings.Replace(appPolicy, "  required_reason = true\n", "", 1))
	admin.does("policy", "write", "free", "free.hcl")
	admin.does("kv", "put", "app", "k=v")

	// Wrapped on the way, opened by the one for whom it is, once.
	wrapping := admin.does("token", "create", "--policy", "free", "--ttl", "1h", "--display-name", "job", "--metadata", "team=db", "--wrap-ttl", "5m", "--field", "token")
	opened := user.shell.input(wrapping).run("unwrap", "--field", "token")
	opened.wants(t, 0)
	user.shell.input(wrapping).run("unwrap").wants(t, 1, "not valid", "somebody else", "!"+wrapping)
	user.file("token", opened.out)
	if got := user.does("kv", "get", "app", "--field", "k", "--token-file", "token"); got != "v" {
		t.Errorf("got %q", got)
	}
	user.shell.input(opened.out).run("login").wants(t, 0, "token stored in", "team", "!"+opened.out)
	if got := user.does("kv", "get", "app", "--field", "k"); got != "v" {
		t.Errorf("with the stored token: %q", got)
	}
	user.does("token", "renew", "--increment", "30m")
	user.run("token", "create", "--policy", "root").wants(t, 3, "permission denied")
	user.run("secrets", "list").wants(t, 3, "permission denied")

	// Revoked by its text, its child goes too; with --mode orphan the child stays.
	for mode, after := range map[string]int{"": 1, "orphan": 0} {
		admin.file("parent", admin.does("token", "create", "--policy", "root", "--ttl", "1h", "--field", "token"))
		child := admin.does("token", "create", "--policy", "free", "--ttl", "1h", "--field", "accessor", "--token-file", "parent")
		args := []string{"token", "revoke", "@parent"}
		if mode != "" {
			args = append(args, "--mode", mode)
		}
		admin.does(args...)
		admin.run("token", "lookup", "@parent").wants(t, 3, "bad token")
		admin.run("token", "lookup", child).wants(t, after)
	}
	used := admin.does("token", "create", "--policy", "free", "--use-limit", "2", "--field", "token")
	admin.file("used", used)
	for range 2 {
		admin.does("kv", "get", "app", "--token-file", "used")
	}
	admin.run("kv", "get", "app", "--token-file", "used").wants(t, 3, "!"+used)

	admin.run("token", "create", "--role", "none").wants(t, 1)
	admin.run("token", "revoke", "nobody").wants(t, 0, "warning: No token found")
	user.does("token", "revoke", "--self")
	user.run("kv", "get", "app").wants(t, 3, "not valid")
	user.does("logout") // one that the cluster does not know any more is just removed
}

// Mounts are made, tuned, moved and ended, and any path of the API is in reach.
func TestMountsAndPathsByHand(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1})
	h := handOf(t, c.Nodes[0])
	h.shell = h.with("CONCLAVE_TOKEN=" + c.RootToken.Reveal())
	wants := func(piece string, args ...string) {
		t.Helper()
		if got := h.does(args...); !strings.Contains(got, piece) {
			t.Errorf("%v: %q is not in\n%s", args, piece, got)
		}
	}
	wants("team/", "secrets", "enable", "kv", "--version", "2", "--path", "team", "--description", "of the team", "--max-ttl", "24h")
	wants("of the team", "secrets", "list")
	wants("version=2", "secrets", "list", "--detailed")
	wants(`"max_lease_ttl": 86400`, "secrets", "list", "--format", "json")
	h.run("secrets", "enable", "kv", "--path", "team").wants(t, 1, "in use", "conclave secrets list")
	h.run("secrets", "enable", "nosuch").wants(t, 1, "nosuch")
	h.does("secrets", "tune", "team", "--default-ttl", "1h", "--description", "people")
	wants("3600", "secrets", "tune", "team/")
	h.run("secrets", "tune", "none").wants(t, 1, "No secret engine")

	h.file("secret.json", `{"data": {"n": 12345678901234567890, "t": "<x>"}}`)
	wants("version", "write", "team/data/a", "@secret.json")
	if got := h.shell.input(`{"data": {"n": 1}}`).run("write", "team/data/a", "-", "--field", "version"); got.out != "2" {
		t.Errorf("the second version is %q: %s", got.out, got.err)
	}
	wants(`"n":12345678901234567890`, "read", "team/data/a", "version=1")
	wants("a\n", "list", "team/metadata")
	wants("patched", "patch", "team/metadata/a", `custom_metadata:={"owner":"me"}`)
	wants(`{"owner":"me"}`, "read", "team/metadata/a", "--field", "custom_metadata")
	h.does("delete", "team/data/a")
	h.run("read", "team/data/a").wants(t, 4, "deletion_time", "not any more")
	h.run("read", "team/data/none").wants(t, 4)
	h.run("read", "none/x").wants(t, 4, "no engine is mounted there")
	h.run("read", "team//a").wants(t, 1, "empty segment")
	h.run("read", "team/../a").wants(t, 1, "..")
	h.run("write", "team/", "k=v").wants(t, 1, "ending in '/'")
	h.run("write", "team/nosuch/x", "k=v").wants(t, 4, "data/", "!wrote")
	h.run("write", "sys/nosuch", "k=v").wants(t, 1, "unsupported")
	wants("team/data/{path...}", "path-help", "team")

	wants("team/ to people/", "secrets", "move", "team", "people")
	wants("a\n", "list", "people/metadata")
	h.run("secrets", "disable", "people").wants(t, 1, "--yes")
	h.does("secrets", "disable", "people", "--yes")
	h.run("secrets", "disable", "people", "--yes").wants(t, 1, "No secret engine")
	h.run("list", "people/metadata").wants(t, 4)

	h.does("auth", "enable", "approle", "--path", "jobs")
	wants("jobs/", "auth", "list")
	wants("auth/jobs/ to auth/work/", "auth", "move", "jobs", "work")
	h.does("write", "auth/work/role/ci", "token_policies=default")
	h.file("role", h.does("read", "auth/work/role/ci/role-id", "--field", "role_id"))
	h.file("secret", h.does("write", "auth/work/role/ci/secret-id", "--field", "secret_id"))
	wants("hvs.", "login", "--method", "approle", "--path", "work", "role_id=@role", "secret_id=@secret", "--no-store", "--field", "token")
	h.run("login", "--method", "approle", "--path", "none", "role_id=x", "secret_id=@secret").wants(t, 3, "--path")
	if _, err := os.Stat(h.home); !os.IsNotExist(err) {
		t.Errorf("--no-store stored something: %v", err)
	}
	h.does("auth", "disable", "work", "--yes")
}

// on runs a command as the foreground process of a terminal.
func (h hand) on(slave *os.File, args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env, cmd.Dir = append(withoutSettings(os.Environ()), h.env...), h.dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	return cmd
}

// At a terminal a token is asked for without echo, Ctrl-C leaves nothing behind,
// and what ends for good is asked about.
func TestHandsAtATerminal(t *testing.T) {
	c := startCluster(t, testprocess.Options{Nodes: 1})
	h := handOf(t, c.Nodes[0])
	root := c.RootToken.Reveal()
	ask := func(x *terminal, prompt string) {
		t.Helper()
		x.await(t, prompt)
		eventually(t, "the echo is off", func(contextOf) error {
			if x.echoes(t) {
				return errors.New("it echoes")
			}
			return nil
		})
	}

	x, slave := openTerminal(t)
	cmd := h.on(slave, "login")
	ask(x, "Token (not shown): ")
	x.typed(t, "\x03")
	if err := cmd.Wait(); err == nil || !x.echoes(t) {
		t.Errorf("after Ctrl-C: %v, echo %v", err, x.echoes(t))
	}
	noTrace(t, "the terminal", x.text())
	if _, err := os.Stat(h.home); !os.IsNotExist(err) {
		t.Errorf("Ctrl-C stored something: %v", err)
	}

	x, slave = openTerminal(t)
	cmd = h.on(slave, "login")
	ask(x, "Token (not shown): ")
	x.typed(t, root+"\n")
	x.await(t, "token stored in")
	if err := cmd.Wait(); err != nil || !x.echoes(t) || strings.Contains(x.text(), root) {
		t.Errorf("logging in: %v, echo %v\n%s", err, x.echoes(t), x.text())
	}

	h.does("secrets", "enable", "kv", "--path", "team")
	for typed, gone := range map[string]bool{"no\n": false, "yes\n": true} {
		x, slave = openTerminal(t)
		cmd = h.on(slave, "secrets", "disable", "team")
		x.await(t, "Type yes to go on: ")
		x.typed(t, typed)
		if err := cmd.Wait(); (err == nil) != gone {
			t.Errorf("%q: %v\n%s", typed, err, x.text())
		}
		if !gone {
			h.does("secrets", "tune", "team")
			continue
		}
		h.run("secrets", "tune", "team").wants(t, 1, "No secret engine")
		h.does("secrets", "enable", "kv", "--path", "team")
	}
}
