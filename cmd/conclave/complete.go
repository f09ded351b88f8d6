package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/client"
)

const (
	// completionTime is how long a shell waits for names before it has none.
	completionTime = 2 * time.Second
	// completionNames bounds how many it is given.
	completionNames = 200
)

// completeArguments has no command offer files where an argument is none. What
// follows "dev --" is another program's.
func completeArguments(cmd *cobra.Command) {
	if cmd.ValidArgsFunction == nil && cmd.Name() != "dev" {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	for _, sub := range cmd.Commands() {
		completeArguments(sub)
	}
}

// offering offers the names below a prefix for the first argument. list returns
// the names in a directory; directories end in a slash.
func (inv *invocation) offering(list func(context.Context, *client.Client, string) ([]string, error)) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		directive := cobra.ShellCompDirectiveNoFileComp
		if len(args) > 0 {
			return nil, directive
		}
		dir := typed[:strings.LastIndexByte(typed, '/')+1]
		names, err := inv.namesIn(strings.TrimSuffix(dir, "/"), list)
		if err != nil {
			return nil, directive // there is no place to tell it
		}
		var out []string
		for _, name := range names {
			if full := dir + name; strings.HasPrefix(full, typed) && printable(full) == full {
				out = append(out, full)
			}
		}
		if len(out) == 1 && strings.HasSuffix(out[0], "/") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		return out, directive
	}
}

func (inv *invocation) namesIn(dir string, list func(context.Context, *client.Client, string) ([]string, error)) (names []string, err error) {
	inv.timeout = min(inv.timeout, completionTime)
	c, err := inv.connect()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	return list(ctx, c, dir)
}

// secretNames lists a directory of secrets.
func secretNames(ctx context.Context, c *client.Client, dir string) ([]string, error) {
	page, err := c.Secrets.List(ctx, dir, client.ListOptions{Limit: completionNames})
	return page.Names, err
}

// leaseNames lists the ids of leases below a directory, without it.
func leaseNames(ctx context.Context, c *client.Client, dir string) ([]string, error) {
	page, err := c.Leases.List(ctx, dir, client.ListOptions{Limit: completionNames})
	if dir != "" {
		dir += "/"
	}
	var names []string
	for _, l := range page.Leases {
		names = append(names, strings.TrimPrefix(l.ID, dir))
	}
	return names, err
}

// nodeNames lists the ids of the members.
func nodeNames(ctx context.Context, c *client.Client, _ string) ([]string, error) {
	members, _, err := c.Operator.Members(ctx)
	var names []string
	for _, m := range members {
		names = append(names, m.ID)
	}
	return names, err
}

// completeNames attaches the lists to the commands of a group.
func completeNames(group *cobra.Command, offer cobra.CompletionFunc) {
	for _, sub := range group.Commands() {
		if strings.Contains(sub.Use, " ") { // it takes an argument
			sub.ValidArgsFunction = offer
		}
		completeNames(sub, offer)
	}
}
