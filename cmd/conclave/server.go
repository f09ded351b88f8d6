package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/conclave-secrets/conclave/server"
)

func serverCommand(inv *invocation) *cobra.Command {
	var file string
	var check bool
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Run a node",
		Long: `Run a node until SIGINT or SIGTERM.

Each setting is a flag, a variable (--api-address is CONCLAVE_API_ADDRESS) and
a key in the file of --config (address in the block api). A flag wins over a
variable, a variable over the file, the file over the default.`,
		Example: `  conclave server --config /etc/conclave/node.hcl --check
  conclave server --data-dir /var/lib/conclave
  CONCLAVE_JOIN_TOKEN=… conclave server --data-dir /var/lib/conclave --join node1:8210`,
		Args: exactArgs(),
	}
	cmd.Flags().StringVar(&file, "config", "", "HCL `FILE` with settings (env CONCLAVE_CONFIG)")
	cmd.Flags().BoolVar(&check, "check", false, "check the configuration and exit: 0 good, 1 not")
	for _, s := range settings {
		if s.list {
			cmd.Flags().StringSlice(s.flag(), nil, "`"+s.value+"`: "+s.usage)
		} else {
			f := cmd.Flags().VarPF(&settingText{kind: s.value}, s.flag(), "", s.usage)
			if s.truth {
				f.NoOptDefVal = "true"
			}
		}
	}
	complete(cmd, "log-level", "debug", "info", "warn", "error")
	complete(cmd, "log-format", "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if file == "" {
			file, _ = inv.env("CONCLAVE_CONFIG")
		}
		cfg, err := sources{file: file, env: inv.env, flags: givenFlags(cmd.Flags()), readFile: readFileNamed}.load()
		if err != nil {
			return &failure{exitUsage, fmt.Errorf("configuring the server: %w", err), "See 'conclave server --help' for the settings; try again with --check."}
		}
		if check {
			return inv.render(map[string]bool{"valid": true}, func(out io.Writer) { row(out, "The configuration is valid.") })
		}
		return runServer(cfg, newLogger(cfg.Log, inv.err))
	}
	return cmd
}

// settingText is the text of a setting on the command line. Its kind is what
// the help shows for the value.
type settingText struct{ text, kind string }

func (s *settingText) String() string     { return s.text }
func (s *settingText) Set(v string) error { s.text = v; return nil }
func (s *settingText) Type() string       { return s.kind }

// givenFlags returns the settings on the command line by flag.
func givenFlags(flags *pflag.FlagSet) map[string]string {
	out := map[string]string{}
	for _, s := range settings {
		f := flags.Lookup(s.flag())
		if f == nil || !f.Changed {
			continue
		}
		out[s.flag()] = f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			out[s.flag()] = strings.Join(list.GetSlice(), ",")
		}
	}
	return out
}

func newLogger(cfg server.LogConfig, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo // Validate lets nothing else through
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: plainErrors}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// plainErrors logs errors by their message. The text handler would print them
// with %+v, which for those of some libraries is a stack trace.
func plainErrors(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		a.Value = slog.StringValue(err.Error())
	}
	return a
}

// serverFailure is why a node could not start or go on, with what the server
// says to do about it.
func serverFailure(activity string, err error) error {
	var (
		wrong *server.SettingError
		port  *server.PortError
		dir   *server.DataDirError
		join  *server.JoinError
	)
	out := &failure{code: exitServer, err: fmt.Errorf("%s: %w", activity, err)}
	switch {
	case errors.As(err, &wrong):
		out.code, out.hint = exitUsage, "See 'conclave server --help' for the settings."
	case errors.As(err, &port):
		out.hint = "Stop what uses the address, or set another " + port.Setting + "."
	case errors.As(err, &dir):
		out.hint = dir.Hint
	case errors.As(err, &join):
		out.hint = join.Hint
	default:
		out.hint = "Data that a newer version wrote needs that version. If the disk is damaged, remove this node from the cluster, empty its data directory, and let it join again."
	}
	return out
}
