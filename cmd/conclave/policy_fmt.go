package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/policy"
)

func policyFmt(inv *invocation) *cobra.Command {
	var rewrite bool
	cmd := &cobra.Command{
		Use:   "fmt FILE...",
		Short: "Print policies in canonical form",
		Long: `Print policies in canonical form, or rewrite their files with --write. Comments
stay. It needs no cluster. Mistakes are told by file, line and column; the other
files are formatted all the same.`,
		Example: `  conclave policy fmt app.hcl
  conclave policy fmt -w policies/*.hcl
  conclave policy fmt - < app.hcl`,
		Args: atLeast("FILE"),
		RunE: func(_ *cobra.Command, files []string) error {
			var mistakes []error
			for _, file := range files {
				if err := inv.formatPolicy(file, rewrite); err != nil {
					mistakes = append(mistakes, err)
				}
			}
			if len(mistakes) > 0 {
				return &failure{exitUsage, errors.Join(mistakes...), policyHint}
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&rewrite, "write", "w", false, "rewrite the files that are not in canonical form, and print their names")
	return cmd
}

func (inv *invocation) formatPolicy(file string, rewrite bool) error {
	if rewrite && file == "-" {
		return fmt.Errorf("standard input cannot be rewritten")
	}
	source, err := inv.readPolicySource(file)
	if err != nil {
		return err
	}
	formatted, err := policy.Format(source.text)
	if err != nil {
		return source.placed(err)
	}
	if !rewrite {
		_, err := inv.out.Write([]byte(formatted))
		return err
	}
	if formatted == source.text {
		return nil
	}
	if err := rewriteFile(file, []byte(formatted)); err != nil {
		return fmt.Errorf("rewriting %s: %w", file, err)
	}
	fmt.Fprintln(inv.out, file)
	return nil
}

// rewriteFile replaces what is in a file, which keeps its mode; after a crash it
// is the old file or the new one. A link stays, and what it leads to is rewritten.
func rewriteFile(name string, text []byte) error {
	name, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
