package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"conclave": main})
}

// The command line tells mistakes apart and explains them, without a server.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Cmds: scriptCommands})
}

// The commands work against real clusters of child processes.
func TestEndToEnd(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/e2e", Cmds: scriptCommands,
		Setup: func(env *testscript.Env) error {
			// Temporary directories of "conclave dev" are made, and must be
			// gone again, here.
			tmp := filepath.Join(env.WorkDir, "tmp")
			env.Setenv("TMPDIR", tmp)
			return os.MkdirAll(tmp, 0o700)
		},
	})
}

var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"exits":      exits,
	"emptydir":   emptyDir,
	"allstopped": allStopped,
}

// exits runs a command and demands its exit code: exits CODE COMMAND ARG...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var ended *exec.ExitError
		if !errors.As(err, &ended) {
			ts.Fatalf("running %s: %v", args[1], err)
		}
		got = ended.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s: exit code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// emptyDir demands that nothing is left in a directory.
func emptyDir(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: emptydir DIR")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, e := range entries {
		ts.Fatalf("%s is left in %s", e.Name(), args[0])
	}
}

// allStopped demands that no process mentions this script's directory any more.
func allStopped(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: allstopped")
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ts.Check(err)
	work := ts.Getenv("WORK")
	for _, file := range lines {
		cmdline, err := os.ReadFile(file)
		if err != nil {
			continue // it ended meanwhile
		}
		if shown := strings.ReplaceAll(string(cmdline), "\x00", " "); strings.Contains(shown, "server --data-dir "+work) {
			ts.Fatalf("still running: %s", shown)
		}
	}
	fmt.Fprintln(ts.Stdout(), "all stopped")
}
