package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// synonyms are what users of similar tools type, by the name of ours.
var synonyms = map[string][]string{
	"get":        {"read", "show", "cat"},
	"put":        {"write", "set", "create", "add"},
	"list":       {"ls", "dir"},
	"delete":     {"rm", "del"},
	"metadata":   {"meta"},
	"init":       {"initialize", "initialise", "bootstrap"},
	"join-token": {"join", "token", "invite"},
	"members":    {"nodes", "peers", "list-peers", "raft"},
	"remove":     {"rm", "remove-peer", "kick"},
	"transfer":   {"step-down"},
	"status":     {"health", "seal-status"},
	"grant":      {"create", "new"},
	"revoke":     {"rm", "delete"},
	"login":      {"signin", "authenticate"},
	"fmt":        {"format"},
	"explain":    {"why", "test"},
	"enable":     {"mount"},
	"disable":    {"unmount", "umount"},
	"move":       {"remount", "mv"},
	"tune":       {"configure"},
	"server":     {"run", "serve", "start", "agent"},
}

// flagSynonyms are flags of similar tools and what to write here.
var flagSynonyms = map[string]string{
	"output": "--format FORMAT", "o": "--format FORMAT", "f": "--format FORMAT", "json": "--format json", "yaml": "--format yaml",
	"addr": "--address HOST:PORT", "host": "--address HOST:PORT", "ca-cert": "--cacert FILE",
	"token": "--token-file FILE (or CONCLAVE_TOKEN)", "max-versions-kept": "--max-versions N", "key": "--field NAME",
}

func unknownCommand(cmd *cobra.Command, name string) error {
	what := "See '" + cmd.CommandPath() + " --help' for what there is."
	near := nearestCommands(cmd, name)
	if len(near) == 0 {
		near = commandsElsewhere(cmd.Root(), name)
	}
	if len(near) > 0 {
		what = "Did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError(what, "unknown command %q for %q", name, cmd.CommandPath())
}

// isMeant tells that somebody who types a synonym means this command.
func isMeant(cmd *cobra.Command, name string) bool {
	return slices.Contains(synonyms[cmd.Name()], name)
}

// closest is how many mistakes may be in a name before it is another: fewer in
// a short one.
func closest(name string) int { return min(2, max(1, len(name)/2)) }

// nearestCommands returns the subcommands that are likest to name, quoted.
func nearestCommands(cmd *cobra.Command, name string) []string {
	var near []string
	distance := closest(name)
	for _, sub := range cmd.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		d := editDistance(name, sub.Name())
		if isMeant(sub, name) {
			d = 0
		}
		if d < distance {
			near = nil
		}
		if d <= distance {
			near, distance = append(near, "'"+sub.CommandPath()+"'"), d
		}
	}
	return near
}

// most is how many commands of other groups are worth a mention.
const most = 3

// commandsElsewhere returns the commands of any group that have this very name,
// or else this meaning, quoted.
func commandsElsewhere(root *cobra.Command, name string) []string {
	var same, meant []string
	var look func(*cobra.Command)
	look = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if !sub.IsAvailableCommand() {
				continue
			}
			switch {
			case sub.Name() == name:
				same = append(same, "'"+sub.CommandPath()+"'")
			case isMeant(sub, name):
				meant = append(meant, "'"+sub.CommandPath()+"'")
			}
			look(sub)
		}
	}
	look(root)
	if len(same) == 0 {
		same = meant
	}
	slices.SortStableFunc(same, func(a, b string) int { return strings.Count(a, " ") - strings.Count(b, " ") })
	return same[:min(len(same), most)]
}

// flagError turns a mistake in the flags into a usage error with a hint.
func flagError(cmd *cobra.Command, err error) error {
	see := "See '" + cmd.CommandPath() + " --help'."
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		name := unknown.GetSpecifiedName()
		if instead, ok := flagSynonyms[name]; ok {
			return usageError("Write "+instead+".", "%w", err)
		}
		if near := nearestFlag(cmd, name); near != "" {
			see = "Did you mean --" + near + "?"
		}
	case errors.As(err, &value):
		// The cause speaks of Go's parsers, which are none of the user's business.
		flag := value.GetFlag()
		return usageError(allowed(flag, see), "--%s: %q is not %s", flag.Name, value.GetValue(), kindOf(flag))
	}
	return usageError(see, "%w", err)
}

// kindOf says what a flag's value must be.
func kindOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "duration":
		return "a duration"
	case "int", "uint64":
		return "a number"
	case "bool":
		return "true or false"
	}
	return "a value for it"
}

// allowed shows a value that is right.
func allowed(f *pflag.Flag, otherwise string) string {
	switch f.Value.Type() {
	case "duration":
		return "Write a number and a unit, such as 90s, 15m or 36h; there is no unit for days."
	case "uint64":
		return "Write a whole number from 0 on."
	}
	return otherwise
}

func nearestFlag(cmd *cobra.Command, name string) string {
	best, distance := "", closest(name)+1
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if d := editDistance(name, f.Name); d < distance {
			best, distance = f.Name, d
		}
	})
	return best
}

// editDistance counts the letters to put in, take out, exchange or swap with
// their neighbour (optimal string alignment).
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
