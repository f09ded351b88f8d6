package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// completeList lets a shell complete the last of the names that a flag takes with
// commas between.
func completeList(c *cobra.Command, flag string, names func() []string) {
	complete(c, flag, func(typed string) (all []string) {
		before := typed[:strings.LastIndex(typed, ",")+1]
		for _, name := range names() {
			if !strings.Contains(","+before, ","+name+",") {
				all = append(all, before+name)
			}
		}
		return all
	})
}

// complete lets a shell complete the value of a flag.
func complete(c *cobra.Command, flag string, values func(typed string) []string) {
	err := c.RegisterFlagCompletionFunc(flag, func(_ *cobra.Command, _ []string, typed string) (fit []string, _ cobra.ShellCompDirective) {
		for _, v := range values(typed) {
			if strings.HasPrefix(v, typed) {
				fit = append(fit, v)
			}
		}
		return fit, cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag is not there: a mistake in this program
	}
}

func completeFormat(c *cobra.Command) {
	complete(c, "format", func(string) []string { return []string{"text", "json"} })
}

// unknownName is an error about a name that a flag does not know, and says which it
// knows.
func unknownName(what, name string, names []string) error {
	return fmt.Errorf("no %s is called %q; there are: %s", what, name, strings.Join(names, ", "))
}
