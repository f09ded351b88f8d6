package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

// maxShareBytes bounds a line with a share on standard input.
const maxShareBytes = 64 << 10

var errNoShare = errors.New("no share was given")

func operatorUnseal(inv *invocation) *cobra.Command {
	var reset bool
	cmd := &cobra.Command{
		Use:   "unseal",
		Short: "Give a share to one node",
		Long: `Give a share to one node, the first of --address. When enough are given, by
whomever, the node is unsealed.

On a terminal it asks for one share, without echo. Otherwise it reads standard
input: one share per line, as many as there are. A share is never an argument,
because arguments show in process lists and shell histories.`,
		Example: `  conclave operator unseal
  conclave operator unseal --address node2.example.org:8210
  age -d my-share.age | conclave operator unseal`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("Type it at the prompt or pipe it in. If that was a real share, clear it from your shell's history.",
					"%s takes no share as an argument", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			return inv.withNode(func(ctx context.Context, c *client.Client) error {
				if reset {
					ceremony, err := c.Operator.ResetUnseal(ctx)
					if err != nil {
						return err
					}
					return inv.renderCeremony(ceremony)
				}
				return inv.unseal(ctx, c.Operator)
			})
		},
	}
	cmd.Flags().BoolVar(&reset, "reset", false, "make the node forget the shares given so far")
	return cmd
}

// unseal gives shares until there is none left or the node is open, and then
// shows the progress. Of several, all but the last report on standard error.
func (inv *invocation) unseal(ctx context.Context, operator client.Operator) error {
	next := inv.promptedShare(ctx)
	if !inv.inIsTerminal {
		next = pipedShares(inv.in)
	}
	var last *client.Ceremony
	for {
		share, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if last != nil {
			fmt.Fprintln(inv.err, ceremonyText(*last))
		}
		ceremony, err := operator.Unseal(ctx, share)
		if err != nil {
			return err
		}
		last = &ceremony
		if !ceremony.Sealed {
			break
		}
	}
	if last == nil {
		return &failure{exitUsage, errNoShare, "Pipe in one share per line, or run this on a terminal."}
	}
	return inv.renderCeremony(*last)
}

// A shareSource returns shares and then io.EOF.
type shareSource func() (client.Share, error)

// promptedShare asks for one share without echo.
func (inv *invocation) promptedShare(ctx context.Context) shareSource {
	asked := false
	return func() (client.Share, error) {
		if asked {
			return client.Share{}, io.EOF
		}
		asked = true
		fmt.Fprint(inv.err, "Share (not shown): ")
		line, err := inv.readHidden(ctx)
		fmt.Fprintln(inv.err)
		if err != nil {
			return client.Share{}, fmt.Errorf("reading the share from the terminal: %w", err)
		}
		text := strings.TrimSpace(string(line))
		if text == "" {
			return client.Share{}, io.EOF
		}
		return client.NewShare(text), nil
	}
}

// pipedShares reads one share per line and skips empty lines.
func pipedShares(in io.Reader) shareSource {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxShareBytes)
	return func() (client.Share, error) {
		for lines.Scan() {
			if text := strings.TrimSpace(lines.Text()); text != "" {
				return client.NewShare(text), nil
			}
		}
		if err := lines.Err(); err != nil {
			return client.Share{}, &failure{exitUsage, fmt.Errorf("reading shares from standard input: %w", err), "Give one share per line."}
		}
		return client.Share{}, io.EOF
	}
}

func ceremonyText(c client.Ceremony) string {
	if !c.Sealed {
		return "The node is unsealed."
	}
	return progress(c.ShareIndexes, c.Threshold)
}

func (inv *invocation) renderCeremony(c client.Ceremony) error {
	view := struct {
		Sealed       bool     `json:"sealed"`
		Threshold    int      `json:"threshold"`
		ShareIndexes []uint32 `json:"share_indexes"`
	}{c.Sealed, c.Threshold, c.ShareIndexes}
	if view.ShareIndexes == nil {
		view.ShareIndexes = []uint32{}
	}
	return inv.render(view, func(out io.Writer) { row(out, ceremonyText(c)) })
}
