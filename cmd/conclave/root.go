package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const rootHelp = `Conclave is a Raft-replicated secrets store: a locked room that opens when
enough key holders agree.

Try it with 'conclave dev': a whole cluster on this machine, ready to use. For a
real one start 'conclave server' on the first machine, then 'conclave operator
init', 'unseal' and 'join-token'.

Exit codes: 0 ok, 1 usage, 2 server or network, 3 denied, 4 not found,
5 conflict, 6 sealed or no leader. ('conclave status': 0 unsealed, 2 sealed,
1 error.)`

// run carries out one invocation and returns its exit code.
func run(args []string, io streams) int {
	root := newRoot(io)
	root.SetArgs(longDashes(root, args))
	err := root.Execute()
	var silent exitWith
	if err != nil && !errors.As(err, &silent) {
		reportError(io.err, err, wantsJSON(args))
	}
	return exitCode(err)
}

// newRoot lists the commands.
func newRoot(io streams) *cobra.Command {
	inv := &invocation{streams: io}
	root := group("conclave", "A replicated secrets store", rootHelp,
		devCommand(inv),
		serverCommand(inv),
		statusCommand(inv),
		operatorCommand(inv),
		kvCommand(inv),
		leaseCommand(inv),
		versionCommand(inv),
	)
	inv.addGlobalFlags(root)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	root.SetFlagErrorFunc(flagError)
	return root
}

// group is a command that only holds others. Without a subcommand it is a
// usage error that shows what there is; with a wrong one it suggests.
func group(use, short, long string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				cmd.SetOut(cmd.ErrOrStderr())
				if err := cmd.Help(); err != nil {
					return err
				}
				return usageError("", "%s needs a command", cmd.CommandPath())
			}
			return unknownCommand(cmd, args[0])
		},
	}
	cmd.DisableFlagsInUseLine = true
	cmd.AddCommand(commands...)
	return cmd
}

func unknownCommand(cmd *cobra.Command, name string) error {
	what := "See '" + cmd.CommandPath() + " --help' for what there is."
	if near := nearestCommands(cmd, name); len(near) > 0 {
		what = "Did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError(what, "unknown command %q for %q", name, cmd.CommandPath())
}

// farthest is the edit distance from which on a name is no typing mistake.
const farthest = 3

// nearestCommands returns the subcommands that are likest to name, quoted.
func nearestCommands(cmd *cobra.Command, name string) []string {
	var near []string
	distance := farthest - 1
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		d := editDistance(name, sub.Name())
		if d < distance {
			near = nil
		}
		if d <= distance {
			near, distance = append(near, "'"+sub.CommandPath()+"'"), d
		}
	}
	return near
}

// flagError turns a mistake in the flags into a usage error with a hint.
func flagError(cmd *cobra.Command, err error) error {
	see := "See '" + cmd.CommandPath() + " --help'."
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		name := unknown.GetSpecifiedName()
		if near := nearestFlag(cmd, name); near != "" {
			see = "Did you mean --" + near + "?"
		}
	}
	return usageError(see, "%w", err)
}

func nearestFlag(cmd *cobra.Command, name string) string {
	best, distance := "", farthest
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if d := editDistance(name, f.Name); d < distance {
			best, distance = f.Name, d
		}
	})
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// exactArgs refuses a wrong number of arguments, with the usage as the hint.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageError("Usage: "+cmd.UseLine(), "%s needs %s", cmd.CommandPath(), strings.Join(names[len(args):], " and "))
		case len(args) > len(names):
			return usageError("Usage: "+cmd.UseLine(), "%s takes %s, but there are %d more",
				cmd.CommandPath(), argumentCount(len(names)), len(args)-len(names))
		}
		return nil
	}
}

func argumentCount(n int) string {
	switch n {
	case 0:
		return "no argument"
	case 1:
		return "one argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// longDashes lets long flags be written with one dash (-field), as users of
// similar tools do. No command has short flags that such a word could mean.
func longDashes(root *cobra.Command, args []string) []string {
	known := map[string]bool{}
	var collect func(*cobra.Command)
	collect = func(cmd *cobra.Command) {
		note := func(f *pflag.Flag) { known[f.Name] = true }
		cmd.Flags().VisitAll(note)
		cmd.PersistentFlags().VisitAll(note)
		for _, sub := range cmd.Commands() {
			collect(sub)
		}
	}
	collect(root)

	out := slices.Clone(args)
	for i, arg := range out {
		if arg == "--" {
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && len(name) > 1 && known[name] {
			out[i] = "-" + arg
		}
	}
	return out
}

// wantsJSON looks for --format json by itself, because the error to report may
// be that the flags could not be parsed.
func wantsJSON(args []string) bool {
	for i, arg := range args {
		switch strings.TrimLeft(arg, "-") {
		case "format=json":
			return strings.HasPrefix(arg, "-")
		case "format":
			if strings.HasPrefix(arg, "-") && i+1 < len(args) && args[i+1] == "json" {
				return true
			}
		}
		if arg == "--" {
			break
		}
	}
	return false
}
