package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/conclave-secrets/conclave/client"
)

// The exit codes, documented in the help of the root command.
const (
	exitOK       = 0
	exitUsage    = 1
	exitServer   = 2
	exitDenied   = 3
	exitNotFound = 4
	exitConflict = 5
	exitSealed   = 6
)

// A failure is an error with its exit code and what to do next.
type failure struct {
	code int
	err  error
	hint string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usageError is a mistake on the command line.
func usageError(hint, format string, args ...any) error {
	return &failure{exitUsage, fmt.Errorf(format, args...), hint}
}

// exitWith ends with a code and without an error message: the command has said
// everything on its standard output, or passes on another program's code.
type exitWith int

func (e exitWith) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// exitCode is the table from errors to exit codes.
func exitCode(err error) int {
	var known *failure
	var silent exitWith
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &silent):
		return int(silent)
	case errors.As(err, &known):
		return known.code
	case errors.Is(err, client.ErrUnknownOutcome):
		return exitServer
	case errors.Is(err, client.ErrDenied):
		return exitDenied
	case errors.Is(err, client.ErrNotFound):
		return exitNotFound
	case errors.Is(err, client.ErrConflict):
		return exitConflict
	case errors.Is(err, client.ErrSealed), errors.Is(err, client.ErrNoLeader):
		return exitSealed
	case errors.Is(err, client.ErrInvalid):
		return exitUsage
	default:
		return exitServer
	}
}

// hint says what to do next about an error. The server's own words go first.
func hint(err error) string {
	var known *failure
	if errors.As(err, &known) && known.hint != "" {
		return known.hint
	}
	if e := client.AsError(err); e != nil && e.Hint != "" {
		return e.Hint
	}
	for _, h := range []struct {
		when error
		hint string
	}{
		{client.ErrUnauthenticated, "Log in with 'conclave login', set CONCLAVE_TOKEN, or name a file with --token-file."},
		{client.ErrDenied, "Use a token that permits this; 'conclave policy explain' tells those who may ask which rule decides."},
		{client.ErrNotFound, "See what is there: 'conclave kv list', 'conclave lease list', 'conclave operator members'."},
		{client.ErrConflict, "Read the present state, then decide again."},
		{client.ErrSealed, "Unseal the node with 'conclave operator unseal' (or 'conclave operator init' when it is new)."},
		{client.ErrNoLeader, "Check with 'conclave status' on each node that a majority of them runs."},
		{client.ErrOverloaded, "Try again a little later."},
	} {
		if errors.Is(err, h.when) {
			return h.hint
		}
	}
	return ""
}

// errorView is an error in JSON.
type errorView struct {
	Message        string `json:"message"`
	Hint           string `json:"hint,omitempty"`
	ExitCode       int    `json:"exit_code"`
	Reason         string `json:"reason,omitempty"`
	Outcome        string `json:"outcome,omitempty"`
	CurrentVersion uint64 `json:"current_version,omitempty"`
	ShareIndex     uint32 `json:"share_index,omitempty"`
	IdempotencyKey string `json:"idempotency_key,omitempty"`
}

// reportError tells an error on standard error. A failing standard error has
// nobody left to tell.
func reportError(w io.Writer, err error, asJSON bool) {
	view := errorView{Message: err.Error(), Hint: sentence(hint(err)), ExitCode: exitCode(err)}
	if e := client.AsError(err); e != nil {
		view.Reason, view.Outcome = string(e.Reason), string(e.Outcome)
		view.CurrentVersion, view.ShareIndex = e.CurrentVersion, e.ShareIndex
		if e.Outcome == client.OutcomeUnknown {
			view.IdempotencyKey = e.IdempotencyKey
		}
	}
	if asJSON {
		if text, err := json.Marshal(map[string]errorView{"error": view}); err == nil {
			fmt.Fprintf(w, "%s\n", text)
			return
		}
	}
	fmt.Fprintf(w, "error: %s\n", indented(view.Message))
	if view.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", indented(view.Hint))
	}
}

// sentence begins a hint of the server, which is lower case like its errors, as
// ours begin; what is a command stays as it is typed.
func sentence(s string) string {
	if s == "" || strings.HasPrefix(s, "conclave ") || strings.HasPrefix(s, "Usage: ") {
		return s
	}
	first, size := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(first)) + s[size:]
	if strings.HasSuffix(s, ".") || strings.HasSuffix(s, "?") {
		return s
	}
	return s + "."
}

// indented keeps the lines of a longer message apart from the next label.
func indented(s string) string { return strings.ReplaceAll(s, "\n", "\n  ") }
