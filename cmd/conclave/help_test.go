package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/conclave-secrets/conclave/client"
)

// leaves calls do with every command that does something itself.
func leaves(cmd *cobra.Command, do func(*cobra.Command)) {
	if !cmd.HasSubCommands() {
		do(cmd)
	}
	for _, sub := range cmd.Commands() {
		if sub.Name() != "completion" && sub.Name() != "help" {
			leaves(sub, do)
		}
	}
}

// Every command has an example in its help.
func TestEveryCommandHasAnExample(t *testing.T) {
	leaves(newRoot(streams{}), func(cmd *cobra.Command) {
		if !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s: the examples are %q", cmd.CommandPath(), cmd.Example)
		}
	})
}

// mentioned finds commands in text for people: words, then flags.
var mentioned = regexp.MustCompile(`\bconclave((?: [a-z][a-z-]*)+)((?: [A-Z][A-Z-]*| <?[a-z/]+>?)*)((?: --[a-z-]+(?: [A-Z0-9][A-Z0-9,]*)?)*)`)

// command resolves what a text says to type; the rest of the words are arguments.
func command(root *cobra.Command, words, flags string) error {
	cmd := root
	for _, word := range strings.Fields(words) {
		next := cmd
		for _, sub := range cmd.Commands() {
			if sub.Name() == word {
				next = sub
			}
		}
		if next == cmd {
			break
		}
		cmd = next
	}
	if cmd == root || cmd.HasSubCommands() {
		return fmt.Errorf("no such command")
	}
	known := pflag.NewFlagSet("", pflag.ContinueOnError)
	known.AddFlagSet(cmd.Flags())
	known.AddFlagSet(cmd.InheritedFlags())
	for _, word := range strings.Fields(flags) {
		if name, isFlag := strings.CutPrefix(word, "--"); isFlag && name != "help" && known.Lookup(name) == nil {
			return fmt.Errorf("%s has no flag --%s", cmd.CommandPath(), name)
		}
	}
	return nil
}

// Every command that a message, a hint or a help text names exists as written.
func TestMentionedCommandsExist(t *testing.T) {
	root := newRoot(streams{})
	found := 0
	for _, dir := range []string{"cmd", "client", "cluster", "core", "server", "transport"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files := token.NewFileSet()
			parsed, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(parsed, func(n ast.Node) bool {
				literal, ok := n.(*ast.BasicLit)
				if !ok || literal.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				text = strings.ReplaceAll(text, "\n", " ")
				for _, m := range mentioned.FindAllStringSubmatch(text, -1) {
					found++
					if err := command(root, m[1], m[3]); err != nil && !isGroup(root, m[1]) {
						t.Errorf("%v: %q: %v", files.Position(literal.Pos()), m[0], err)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if found < 50 {
		t.Errorf("only %d commands were found in the texts", found)
	}
	for _, wrong := range []struct{ words, flags string }{{" operator join", ""}, {" kv metadata", ""}, {" kv get", " --cas"}, {" nonsense", ""}} {
		if command(root, wrong.words, wrong.flags) == nil {
			t.Errorf("%q passes for a command", wrong)
		}
	}
}

// isGroup tells whether a text names just a group, as the lists of commands do.
func isGroup(root *cobra.Command, words string) bool {
	cmd, rest, err := root.Find(strings.Fields(words))
	return err == nil && cmd != root && cmd.HasSubCommands() && len(rest) == 0
}

// An error is told with the command that helps with it, spelled for a shell.
func TestAdvice(t *testing.T) {
	for _, test := range []struct {
		args []string
		err  client.Error
		want string
	}{
		{[]string{"kv", "get", "a/b", "--version", "7"}, client.Error{Reason: client.ReasonNotFound}, "'conclave kv metadata get a/b'"},
		{[]string{"kv", "undelete", "a/b", "--versions", "7"}, client.Error{Reason: client.ReasonNotFound}, "'conclave kv metadata get a/b'"},
		{[]string{"kv", "get", "a/b/c"}, client.Error{Reason: client.ReasonNotFound}, "'conclave kv list a/b'"},
		{[]string{"kv", "list", "a/"}, client.Error{Reason: client.ReasonNotFound}, "'conclave kv list'"},
		{[]string{"kv", "get", "my $x/b"}, client.Error{Reason: client.ReasonNotFound}, `'conclave kv list "my \$x"'`},
		{[]string{"kv", "get", "a"}, client.Error{Reason: client.ReasonVersionDeleted}, "'conclave kv undelete a --versions N'"},
		{[]string{"kv", "get", "a"}, client.Error{Reason: client.ReasonVersionDestroyed}, "'conclave kv metadata get a'"},
		{[]string{"kv", "put", "a", "k=v"}, client.Error{Reason: client.ReasonCASRequired, CurrentVersion: 4}, "--cas 4"},
		{[]string{"kv", "put", "a", "k=v", "--cas", "3"}, client.Error{Reason: client.ReasonCASMismatch, CurrentVersion: 4}, "--cas 4"},
		{[]string{"kv", "put", "a", "k=v"}, client.Error{Outcome: client.OutcomeUnknown, IdempotencyKey: "K1"}, "--idempotency-key K1"},
		{[]string{"operator", "remove", "n"}, client.Error{Outcome: client.OutcomeUnknown}, "'conclave operator members'"},
		{[]string{"operator", "init"}, client.Error{Outcome: client.OutcomeUnknown}, "empty data directory"},
		{[]string{"operator", "join-token"}, client.Error{Outcome: client.OutcomeUnknown}, "Make another"},
		{[]string{"lease", "lookup", "a/b"}, client.Error{Reason: client.ReasonNotFound}, "'conclave lease list a'"},
		{[]string{"lease", "renew", "a/b"}, client.Error{Reason: client.ReasonLeaseExpired}, "'conclave lease grant a'"},
		{[]string{"kv", "get", "a"}, client.Error{Reason: client.ReasonInternal, Node: "h:1"}, "node at h:1"},
		{[]string{"lease", "grant", "a"}, client.Error{Reason: client.ReasonInvalid}, "'conclave lease grant --help'"},
		{[]string{"kv", "get", "a"}, client.Error{Reason: client.ReasonUnauthenticated}, "'conclave login'"},
		{[]string{"kv", "get", "a"}, client.Error{Reason: client.ReasonDenied}, "'conclave policy explain'"},
		{[]string{"login"}, client.Error{Reason: client.ReasonUnauthenticated}, "mistyped"},
		{[]string{"login", "--method", "userpass"}, client.Error{Reason: client.ReasonUnauthenticated}, "--path"},
		{[]string{"login", "--method", "userpass"}, client.Error{Reason: client.ReasonInvalid}, "Check the credentials"},
		{[]string{"login"}, client.Error{Outcome: client.OutcomeUnknown}, "Log in again"},
		{[]string{"unwrap"}, client.Error{Reason: client.ReasonInvalid}, "somebody else"},
		{[]string{"unwrap"}, client.Error{Outcome: client.OutcomeUnknown}, "wrapped anew"},
		{[]string{"token", "create"}, client.Error{Outcome: client.OutcomeUnknown}, "expires by itself"},
		{[]string{"token", "lookup", "x"}, client.Error{Reason: client.ReasonInvalid}, "@FILE"},
		{[]string{"token", "revoke", "--accessor", "x"}, client.Error{Reason: client.ReasonInvalid}, "@FILE"},
		{[]string{"policy", "read", "x"}, client.Error{Reason: client.ReasonNotFound}, "'conclave policy list'"},
		{[]string{"secrets", "enable", "x"}, client.Error{Reason: client.ReasonInvalid}, "Check the type"},
		{[]string{"auth", "tune", "x"}, client.Error{Reason: client.ReasonInvalid}, "'conclave auth list'"},
		{[]string{"read", "x"}, client.Error{Reason: client.ReasonNotFound}, "MOUNT/data/"},
		{[]string{"write", "x"}, client.Error{Reason: client.ReasonInvalid}, "'conclave secrets list'"},
		{[]string{"write", "x"}, client.Error{Outcome: client.OutcomeUnknown, Hint: "Read the present state"}, "Read the present state"},
		{[]string{"kv", "get", "a"}, client.Error{Reason: client.ReasonSealed, Hint: "the server's"}, "The server's."},
		{[]string{"kv", "get", "a"}, client.Error{Reason: client.ReasonNotFound, Hint: "the server's"}, "'conclave kv list'"},
	} {
		root := newRoot(streams{})
		cmd, rest, err := root.Find(test.args)
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Fatal(err)
		}
		advised := advise(cmd, fmt.Errorf("wrapped: %w", &test.err))
		if got := sentence(hint(advised)); !strings.Contains(got, test.want) {
			t.Errorf("%v: %+v: the hint is %q, want %q in it", test.args, test.err, got, test.want)
		}
		if got, want := exitCode(advised), exitCode(&test.err); got != want {
			t.Errorf("%v: advice changed the exit code to %d from %d", test.args, got, want)
		}
		if client.AsError(advised) == nil {
			t.Errorf("%v: the error is lost", test.args)
		}
	}
}
