package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

// advise adds to an error what the user of this very command can do next. The
// server does not know what was typed, and says what any caller could do.
func advise(cmd *cobra.Command, err error) error {
	e := client.AsError(err)
	if e == nil || cmd == nil {
		return err
	}
	advice := adviceFor(cmd, e)
	if advice == "" && hint(err) == "" {
		advice = "See '" + cmd.CommandPath() + " --help'."
	}
	if advice == "" {
		return err
	}
	code := exitCode(err)
	var known *failure
	if errors.As(err, &known) {
		code = known.code
	}
	return &failure{code, err, advice}
}

// adviceFor returns nothing where the server's own hint is the best.
func adviceFor(cmd *cobra.Command, e *client.Error) string {
	if e.Outcome == client.OutcomeUnknown {
		return adviceUnknown(cmd, e)
	}
	if advice := adviceReaching(cmd, e); advice != "" {
		return advice
	}
	switch groupOf(cmd) {
	case "kv":
		return adviceSecret(cmd, e)
	case "lease":
		return adviceLease(cmd, e)
	}
	return advicePath(cmd, e)
}

// groupOf is the first word after "conclave".
func groupOf(cmd *cobra.Command) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(cmd.CommandPath(), "conclave "), " ")
	return first
}

// adviceUnknown tells how to learn what became of a write.
func adviceUnknown(cmd *cobra.Command, e *client.Error) string {
	switch {
	case cmd.Flags().Lookup("idempotency-key") != nil && e.IdempotencyKey != "":
		return "Send the same again with --idempotency-key " + shellWord(e.IdempotencyKey) + ": it is carried out once, and you hear what became of it."
	case cmd.Name() == "init":
		return "See with 'conclave status' whether it was done. If so, its shares are lost: begin again with an empty data directory."
	case cmd.Name() == "join-token", cmd.CommandPath() == "conclave token create":
		return "Make another; one that nobody saw expires by itself."
	case groupOf(cmd) == "login":
		return "Log in again; a token that nobody saw expires by itself."
	case groupOf(cmd) == "unwrap":
		return "If it says next that the token is not valid, it was opened and its answer is lost: have it wrapped anew."
	case groupOf(cmd) == "operator":
		return "See with 'conclave operator members' whether it was done."
	}
	return ""
}

// adviceReaching is for nodes that do not answer, or do not answer us.
func adviceReaching(cmd *cobra.Command, e *client.Error) string {
	var foreign x509.UnknownAuthorityError
	switch {
	case errors.As(e, &foreign):
		return "Name the ca.pem from this node's data directory with --cacert or CONCLAVE_CACERT; it changes at init and when the node joins."
	case e.Reason == client.ReasonUnauthenticated && sendsNoToken(cmd):
		return "Name with --path where the method is mounted; 'conclave auth list' tells those who may ask."
	case e.Reason == client.ReasonUnauthenticated:
		return "Log in with 'conclave login', set CONCLAVE_TOKEN, or name a file with --token-file. A token can be mistyped, revoked or expired, or belong to another cluster."
	case e.Reason == client.ReasonInternal && e.Node != "":
		return "Look into the log of the node at " + e.Node + "."
	}
	return ""
}

// sendsNoToken tells of a login that it needs none where its method is mounted.
func sendsNoToken(cmd *cobra.Command) bool {
	method := cmd.Flags().Lookup("method")
	return groupOf(cmd) == "login" && method != nil && method.Value.String() != "token"
}

func adviceSecret(cmd *cobra.Command, e *client.Error) string {
	path := strings.Join(cmd.Flags().Args(), " ")
	if args := cmd.Flags().Args(); len(args) > 0 {
		path = args[0]
	}
	metadata := "'conclave kv metadata get " + shellWord(path) + "'"
	switch e.Reason {
	case client.ReasonNotFound:
		if changed(cmd, "version") || changed(cmd, "versions") {
			return "See its versions with " + metadata + "."
		}
		return "See what is there with '" + strings.TrimRight("conclave kv list "+parentOf(path), " ") + "'."
	case client.ReasonVersionDeleted:
		return "Bring it back with 'conclave kv undelete " + shellWord(path) + " --versions N', or see the others with " + metadata + "."
	case client.ReasonVersionDestroyed:
		return "Its data is gone for good; see the other versions with " + metadata + "."
	case client.ReasonCASRequired:
		return fmt.Sprintf("Name the version that you expect to be current: it is --cas %d now.", e.CurrentVersion)
	case client.ReasonCASMismatch:
		if e.CurrentVersion == 0 {
			return "There is no version yet, or not any more: --cas 0 writes the first."
		}
		return fmt.Sprintf("Look at it with 'conclave kv get %s' and decide again: --cas %d.", shellWord(path), e.CurrentVersion)
	}
	return ""
}

func adviceLease(cmd *cobra.Command, e *client.Error) string {
	id := ""
	if args := cmd.Flags().Args(); len(args) > 0 {
		id = args[0]
	}
	switch {
	case e.Reason == client.ReasonNotFound && cmd.Name() == "grant":
		return "See which leases there are to own it with 'conclave lease list'."
	case e.Reason == client.ReasonNotFound:
		return "See which there are with '" + strings.TrimRight("conclave lease list "+parentOf(id), " ") + "'."
	case e.Reason == client.ReasonLeaseExpired:
		return "Grant a new one with '" + strings.TrimRight("conclave lease grant "+parentOf(id), " ") + "'."
	}
	return ""
}

// advicePath is for commands on the paths of the API.
func advicePath(cmd *cobra.Command, e *client.Error) string {
	reason := e.Reason
	switch groupOf(cmd) {
	case "login":
		if reason == client.ReasonInvalid || reason == client.ReasonDenied {
			return "Check the credentials, and with --path where the method is mounted."
		}
	case "unwrap":
		if reason == client.ReasonInvalid {
			return "It was mistyped, has expired, or was opened already. If nobody of yours opened it, somebody else did: take what it held for known."
		}
	case "policy":
		if reason == client.ReasonNotFound && cmd.Name() == "read" {
			return "See which there are with 'conclave policy list'."
		}
	case "token":
		if reason == client.ReasonInvalid && changed(cmd, "accessor") || reason == client.ReasonInvalid && len(cmd.Flags().Args()) > 0 {
			return "Check the accessor; a token itself is given as @FILE or -."
		}
	case "secrets", "auth":
		switch {
		case reason == client.ReasonInvalid && cmd.Name() == "enable":
			return "Check the type, and with 'conclave " + groupOf(cmd) + " list' what is mounted already."
		case reason == client.ReasonInvalid:
			return "See what is mounted with 'conclave " + groupOf(cmd) + " list'."
		}
	case "read", "list", "write", "patch", "delete", "path-help":
		switch reason {
		case client.ReasonNotFound:
			return "See what is mounted with 'conclave secrets list' and 'conclave auth list', and what is there with 'conclave list PATH'. In kv version 2 secrets lie below MOUNT/data/."
		case client.ReasonInvalid:
			return "Check path and fields; see what is mounted with 'conclave secrets list' and 'conclave auth list'."
		}
	}
	return ""
}

func changed(cmd *cobra.Command, flag string) bool {
	f := cmd.Flags().Lookup(flag)
	return f != nil && f.Changed
}

// parentOf is the directory of a path, as one would type it; "" is the root.
func parentOf(path string) string {
	at := strings.LastIndexByte(strings.TrimSuffix(path, "/"), '/')
	if at <= 0 {
		return ""
	}
	return shellWord(path[:at])
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// shellWord quotes what a shell would take apart.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`).Replace(s) + `"`
}
