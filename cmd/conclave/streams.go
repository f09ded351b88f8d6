package main

import (
	"context"
	"io"
	"os"

	"golang.org/x/term"
)

// streams is the outside world of one invocation.
type streams struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) (string, bool)
	// outIsTerminal and inIsTerminal change how raw values end and how shares
	// are asked for.
	outIsTerminal, inIsTerminal bool
	// readHidden reads a line without echo; only called when inIsTerminal.
	readHidden func(context.Context) ([]byte, error)
}

func processIO() streams {
	stdin := int(os.Stdin.Fd())
	return streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.LookupEnv,
		outIsTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		inIsTerminal:  term.IsTerminal(stdin),
		readHidden:    func(ctx context.Context) ([]byte, error) { return readHidden(ctx, stdin) },
	}
}

// readHidden reads a line without echo. When ctx ends first (Ctrl-C) it turns
// the echo on again; the read itself cannot be stopped and ends with the
// process.
func readHidden(ctx context.Context, terminal int) ([]byte, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return nil, err
	}
	type result struct {
		line []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := term.ReadPassword(terminal)
		done <- result{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		if err := term.Restore(terminal, before); err != nil {
			return nil, err
		}
		return nil, context.Cause(ctx)
	}
}
