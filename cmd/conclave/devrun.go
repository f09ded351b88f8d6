package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// Exit codes of a command that could not run, as shells have them.
const (
	exitCannotRun = 126
	exitNoCommand = 127
)

// runCommand runs the user's command in the foreground and returns its exit
// code. While it runs, Ctrl-C is its own affair (the terminal sends it to both
// of us, and a shell or a debugger lives on); being told to terminate is passed
// on. A node that dies meanwhile is reported, but the command may have meant it.
func (d *devCluster) runCommand(argv []string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = d.childOfUser()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = d.inv.in, d.inv.out, d.inv.err

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		code := exitCannotRun
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			code = exitNoCommand
		}
		return &failure{code, fmt.Errorf("running %s: %w", argv[0], err), "Check the command after '--'."}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			return commandResult(argv[0], err)
		case dead := <-d.died:
			reportError(d.inv.err, dead.failure("ended while the command ran"), d.inv.format == formatJSON)
		case s := <-signals:
			if s == os.Interrupt {
				continue
			}
			if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return devFailure("passing a signal on to "+argv[0], err, "")
			}
		}
	}
}

// commandResult turns the end of the command into our own exit code.
func commandResult(name string, err error) error {
	if err == nil {
		return nil
	}
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return devFailure("running "+name, err, "")
	}
	if status, ok := ended.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitWith(128 + int(status.Signal()))
	}
	return exitWith(ended.ExitCode())
}
