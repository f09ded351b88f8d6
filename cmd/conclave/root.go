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
	cmd, err := root.ExecuteC()
	err = advise(cmd, err)
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
		loginCommand(inv),
		logoutCommand(inv),
		kvCommand(inv),
		readCommand(inv),
		listCommand(inv),
		writeCommand(inv),
		patchCommand(inv),
		deleteCommand(inv),
		pathHelpCommand(inv),
		unwrapCommand(inv),
		tokenCommand(inv),
		policyCommand(inv),
		leaseCommand(inv),
		auditCommand(inv),
		versionCommand(inv),
	)
	root.AddCommand(mountCommands(inv)...)
	inv.addGlobalFlags(root)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	root.SetFlagErrorFunc(flagError)
	addHelpAndCompletion(root)
	completeArguments(root)
	return root
}

// addHelpAndCompletion adds the library's commands, and has them refuse what
// they do not know.
func addHelpAndCompletion(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.RunE, cmd.Run = helpOn, nil
		case "completion":
			shells := group(cmd.Use, cmd.Short, cmd.Long)
			cmd.Args, cmd.RunE = shells.Args, shells.RunE
		}
	}
}

// helpOn shows the help of the command named by args.
func helpOn(help *cobra.Command, args []string) error {
	cmd, rest, err := help.Root().Find(args)
	if err != nil || len(rest) > 0 {
		if cmd == nil {
			cmd = help.Root()
		}
		return unknownCommand(cmd, firstOf(rest, args))
	}
	cmd.InitDefaultHelpFlag()
	return cmd.Help()
}

func firstOf(lists ...[]string) string {
	for _, list := range lists {
		if len(list) > 0 {
			return list[0]
		}
	}
	return ""
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
// similar tools do. The only short flag, -w, cannot be meant by such a word.
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
