package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

// A loginMethod is a way to get a token.
type loginMethod struct {
	name string
	// fields may be given as arguments; needs are those that must be.
	fields, needs []string
	// secret is the field that is asked for and never an argument, and what it is
	// called.
	secret, secretName string
	// path returns where to send the body in the mount.
	path func(fields map[string]string) string
}

func loginPath(map[string]string) string { return "login" }

// loginMethods are those that this command knows; others are a "conclave write".
var loginMethods = []loginMethod{
	{name: "token", secret: "token", secretName: "token"},
	{name: "userpass", fields: []string{"username"}, needs: []string{"username"}, secret: "password", secretName: "password",
		path: func(f map[string]string) string { return "login/" + f["username"] }},
	{name: "approle", fields: []string{"role_id"}, needs: []string{"role_id"}, secret: "secret_id", secretName: "secret id", path: loginPath},
	{name: "jwt", fields: []string{"role"}, secret: "jwt", secretName: "JWT", path: loginPath},
}

type loginFlags struct {
	method, mount, field string
	noStore              bool
}

func loginCommand(inv *invocation) *cobra.Command {
	var o loginFlags
	cmd := &cobra.Command{
		Use:   "login [NAME=VALUE...]",
		Short: "Log in, and keep the token for later commands",
		Long: `Log in, and keep the token for later commands, in $CONCLAVE_HOME/token or
~/.config/conclave/token, readable for you alone.

Methods, their arguments, and what they ask for:
  token                                            the token
  userpass   username=NAME                         the password
  approle    role_id=ID                            the secret id
  jwt        role=NAME (or the mount's default)    the JWT

What they ask for is read from a prompt without echo, or from standard input, or
from a file: password=@FILE, secret_id=@FILE, jwt=@FILE, token=@FILE. It is never
an argument itself.`,
		Example: `  conclave login
  conclave login --method userpass username=alice
  conclave login --method approle role_id=@role-id secret_id=@secret-id
  conclave login --method jwt --path ci role=deploy jwt=@token.jwt --no-store --field token`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error { return inv.login(o, args) },
	}
	var names []string
	for _, m := range loginMethods {
		names = append(names, m.name)
	}
	cmd.Flags().StringVar(&o.method, "method", "token", "log in by `METHOD`: "+strings.Join(names, ", "))
	cmd.Flags().StringVar(&o.mount, "path", "", "`MOUNT` of the method below auth/ (default: its name)")
	cmd.Flags().StringVar(&o.field, "field", "", "print only the value of the field `NAME`, raw")
	cmd.Flags().BoolVar(&o.noStore, "no-store", false, "print the token and do not keep it")
	complete(cmd, "method", names...)
	cmd.ValidArgsFunction = o.completeFields
	return cmd
}

// completeFields offers the arguments of the method.
func (o *loginFlags) completeFields(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if m, err := findMethod(o.method); err == nil {
		for _, name := range append(slices.Clone(m.fields), m.secret) {
			out = append(out, name+"=")
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func findMethod(name string) (loginMethod, error) {
	var names []string
	for _, m := range loginMethods {
		if m.name == name {
			return m, nil
		}
		names = append(names, m.name)
	}
	return loginMethod{}, usageError("Use one of "+strings.Join(names, ", ")+". Any other logs in with a plain request: 'conclave write auth/MOUNT/login' and its fields.",
		"unknown --method %q", name)
}

func (inv *invocation) login(o loginFlags, args []string) error {
	method, err := findMethod(o.method)
	if err != nil {
		return err
	}
	if method.name == "token" && o.mount != "" {
		return usageError("Tokens have one mount only.", "--path does not go with --method token")
	}
	fields, err := inv.loginFields(method, args)
	if err != nil {
		return err
	}
	var token client.Token // a login needs none
	if method.name == "token" {
		token = client.NewToken(strings.TrimSpace(fields["token"]))
	}
	return inv.with(inv.connectAs(token), func(ctx context.Context, c *client.Client) error {
		answer, err := askLogin(ctx, c, method, o.mount, fields)
		if err != nil {
			return err
		}
		if method.name == "token" {
			if answer, err = ownAuth(answer, token); err != nil {
				return err
			}
		}
		return inv.loggedIn(o, answer)
	})
}

// askLogin sends the credentials; those of the method token it only looks up.
func askLogin(ctx context.Context, c *client.Client, m loginMethod, mount string, fields map[string]string) (*client.Answer, error) {
	if m.name == "token" {
		return c.Paths.Read(ctx, "auth/token/lookup-self", client.PathOptions{})
	}
	if mount = strings.TrimPrefix(strings.Trim(mount, "/"), "auth/"); mount == "" {
		mount = m.name
	}
	answer, err := c.Paths.Write(ctx, "auth/"+mount+"/"+m.path(fields), fields, client.PathOptions{})
	if err == nil && answer.Auth == nil {
		err = &failure{exitServer, errNoToken, "See with 'conclave auth list' what is mounted there."}
	}
	return answer, err
}

var errNoToken = errors.New("logging in: the answer holds no token")

// ownAuth makes of the look-up of a token what a login would have answered.
func ownAuth(a *client.Answer, token client.Token) (*client.Answer, error) {
	var own struct {
		Accessor  string            `json:"accessor"`
		Policies  []string          `json:"policies"`
		Meta      map[string]string `json:"meta"`
		TTL       int64             `json:"ttl"`
		Renewable bool              `json:"renewable"`
		EntityID  string            `json:"entity_id"`
		Type      string            `json:"type"`
		Orphan    bool              `json:"orphan"`
		NumUses   uint64            `json:"num_uses"`
	}
	if err := a.Decode(&own); err != nil {
		return nil, err
	}
	out := *a
	out.Data = client.Value{}
	out.Auth = &client.Auth{Token: token, Accessor: own.Accessor, Policies: own.Policies, Metadata: own.Meta,
		LeaseDuration: durationOf(own.TTL), Renewable: own.Renewable, EntityID: own.EntityID, Type: own.Type, Orphan: own.Orphan, NumUses: own.NumUses}
	return &out, nil
}

// loginFields reads the arguments of a method and asks for its secret.
func (inv *invocation) loginFields(m loginMethod, args []string) (map[string]string, error) {
	fields, source := map[string]string{}, ""
	for _, arg := range args {
		name, value, found := strings.Cut(arg, "=")
		_, twice := fields[name]
		switch {
		case !found && m.name == "token":
			return nil, argvError(m.secretName)
		case !found:
			return nil, usageError("Write name=value.", "an argument of the login is not name=value")
		case twice, name == m.secret && source != "":
			return nil, usageError("", "%s is given twice", name)
		case name == m.secret && value == "":
			return nil, usageError("Leave it out to be asked for it.", "%s is empty", name)
		case name == m.secret:
			source = value
		case !slices.Contains(m.fields, name):
			return nil, usageError("It takes "+strings.Join(append(slices.Clone(m.fields), m.secret), ", ")+".", "a login by %s has no field %q", m.name, name)
		default:
			if file, isFile := strings.CutPrefix(value, "@"); isFile {
				text, err := readSecretFile(file)
				if err != nil {
					return nil, usageError("", "reading %s: %w", name, err)
				}
				value = strings.TrimSpace(text)
			}
			fields[name] = value
		}
	}
	for _, name := range m.needs {
		if fields[name] == "" {
			return nil, usageError(fmt.Sprintf("Write %s=…, as in 'conclave login --help'.", name), "a login by %s needs %s", m.name, name)
		}
	}
	if strings.Contains(fields["username"], "/") {
		return nil, usageError("", "a username has no slash")
	}
	text, err := inv.credential(m.secretName, source)
	fields[m.secret] = text
	return fields, err
}

// loggedIn keeps the token, or prints it.
func (inv *invocation) loggedIn(o loginFlags, a *client.Answer) error {
	inv.warn(a.Warnings)
	if o.noStore || o.field != "" {
		if !o.noStore {
			if _, err := inv.storeToken(a.Auth.Token); err != nil {
				return err
			}
		}
		quiet := *a
		quiet.Warnings = nil // told already
		return inv.renderAnswer(&quiet, "", o.field)
	}
	path, err := inv.storeToken(a.Auth.Token)
	if err != nil {
		return err
	}
	if stronger := inv.tokenSource(); stronger != "" {
		fmt.Fprintf(inv.err, "warning: %s is given and goes before the token that is stored now.\n", stronger)
	}
	view := struct {
		StoredIn string `json:"stored_in"`
		authView
	}{path, *viewAuth(a.Auth)}
	view.Token = ""
	return inv.render(view, func(out io.Writer) {
		row(out, "token stored in", path)
		tableAuth(out, &view.authView)
	})
}

func logoutCommand(inv *invocation) *cobra.Command {
	revoke := true
	cmd := &cobra.Command{
		Use:   "logout",
		Short: "Revoke the stored token and forget it",
		Long: `Revoke the token that 'conclave login' stored, and remove it. One that the cluster
does not know any more is just removed. --revoke=false asks no cluster.`,
		Example: `  conclave logout
  conclave logout --revoke=false`,
		Args: exactArgs(),
		RunE: func(*cobra.Command, []string) error { return inv.logout(revoke) },
	}
	cmd.Flags().BoolVar(&revoke, "revoke", true, "revoke the token at the cluster, too")
	return cmd
}

func (inv *invocation) logout(revoke bool) error {
	path := inv.tokenPath()
	done := "There was no stored token."
	if _, err := os.Lstat(path); path != "" && !errors.Is(err, fs.ErrNotExist) {
		if revoke {
			if err := inv.revokeStored(); err != nil {
				return err
			}
		}
		if err := os.Remove(path); err != nil {
			return &failure{exitUsage, fmt.Errorf("removing the stored token: %w", err), "Remove it by hand."}
		}
		done = "Removed " + path + "."
	}
	if stronger := inv.tokenSource(); stronger != "" {
		fmt.Fprintf(inv.err, "warning: %s is given and still in use.\n", stronger)
	}
	return inv.render(map[string]string{"done": done}, func(out io.Writer) { row(out, done) })
}

// revokeStored revokes the stored token; one that is known no more has ended.
func (inv *invocation) revokeStored() error {
	token, err := inv.storedToken()
	if err != nil || token.IsZero() {
		return err
	}
	err = inv.with(inv.connectAs(token), func(ctx context.Context, c *client.Client) error {
		_, err := c.Paths.Write(ctx, "auth/token/revoke-self", nil, client.PathOptions{})
		return err
	})
	if err == nil || errors.Is(err, client.ErrUnauthenticated) {
		return nil
	}
	code := exitCode(err)
	return &failure{code, err, "The token is still stored. 'conclave logout --revoke=false' removes it here; at the cluster it then lives until it expires."}
}

// sortedKeys lists the names in a map, in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
