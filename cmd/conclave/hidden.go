package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// Credentials are never arguments, because arguments show in process lists and
// shell histories. They come from a prompt without echo, from standard input or
// from a file.

// credential reads one: "" and "-" stand for the prompt, or for standard input
// when that is no terminal, and "@FILE" for a file. What names it in messages.
// Only the end of the line is cut off.
func (inv *invocation) credential(what, source string) (string, error) {
	file, isFile := strings.CutPrefix(source, "@")
	var text string
	var err error
	switch {
	case isFile:
		text, err = readSecretFile(file)
	case source != "" && source != "-":
		return "", argvError(what)
	case inv.inIsTerminal:
		text, err = inv.prompt(what)
	default:
		text, err = readBounded(inv.in)
	}
	if err != nil {
		return "", &failure{exitUsage, fmt.Errorf("reading the %s: %w", what, err), "Type it at the prompt, pipe it in, or name a file as @FILE."}
	}
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		return "", &failure{exitUsage, fmt.Errorf("no %s was given", what), "Type it at the prompt, pipe it in, or name a file as @FILE."}
	}
	return text, nil
}

// argvError refuses a credential among the arguments and does not repeat it.
func argvError(what string) error {
	return usageError("Type it at the prompt, pipe it in, or name a file as @FILE. If that was a real one, clear it from your shell's history.",
		"a %s is never an argument", what)
}

// prompt asks on the terminal, without echo. Ctrl-C ends it with the echo on.
func (inv *invocation) prompt(what string) (string, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Fprintf(inv.err, "%s (not shown): ", strings.ToUpper(what[:1])+what[1:])
	line, err := inv.readHidden(ctx)
	fmt.Fprintln(inv.err)
	return string(line), err
}

var errNotConfirmed = errors.New("nothing was done")

// confirm asks before something is done for good. It must be called before a
// command catches signals, so that Ctrl-C still ends it.
func (inv *invocation) confirm(yes bool, what string) error {
	if yes {
		return nil
	}
	if !inv.inIsTerminal {
		return usageError("Add --yes if that is meant.", "this %s, and there is no terminal to ask on", what)
	}
	fmt.Fprintf(inv.err, "This %s. Type yes to go on: ", what)
	var answer string
	if _, err := fmt.Fscanln(inv.in, &answer); err != nil || answer != "yes" {
		return &failure{exitUsage, errNotConfirmed, "Type yes, in full, or add --yes."}
	}
	return nil
}
