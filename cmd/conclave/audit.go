package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/conclave-secrets/conclave/audit"
)

// auditCommand reads the audit log of a node from its files.
func auditCommand(inv *invocation) *cobra.Command {
	return group("audit", "Read and verify audit logs",
		"An unsealed node records each request in audit/audit.log in its data directory: who, what, when, why, and which\n"+
			"rule decided. The records form a chain of hashes, whose heads the cluster keeps. Values are keyed hashes, never in\n"+
			"clear. These commands read the files; only 'hash', '--value' and '--cluster' need a running node.",
		auditVerify(inv), auditQuery(inv), auditHashCommand(inv))
}

// auditFiles are the file at a path and those that it was rotated to.
func auditFiles(path string) ([]string, error) {
	files, err := audit.Files(audit.Disk, path)
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("there is no audit log at %s", path)
	}
	if err != nil {
		return nil, &failure{exitUsage, err, "Name the file that the node writes: audit/audit.log in its data directory, unless audit.file says otherwise."}
	}
	return files, nil
}

func auditVerify(inv *invocation) *cobra.Command {
	var anchors []string
	var cluster bool
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check the chain of an audit log",
		Long: "Reads an audit log with all that it was rotated to, and names the first record after which something was edited,\n" +
			"deleted, inserted or moved. That records are missing at the end, or that the log was written anew with good hashes,\n" +
			"shows against heads that were noted before: by the cluster, every few seconds (--cluster; its token must be allowed\n" +
			"to read sys/audit/anchors), or by you (--anchor, as this command prints it). Exits with 5 if the log is not as it\n" +
			"was written.",
		Example: `  conclave audit verify data/audit/audit.log
  conclave audit verify data/audit/audit.log --cluster
  conclave audit verify data/audit/audit.log --anchor 4711:9f86d0…`,
		Args: exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := auditFiles(args[0])
			if err != nil {
				return err
			}
			o := audit.VerifyOptions{Files: files, Live: true}
			for _, a := range anchors {
				head, err := audit.ParseHead(a)
				if err != nil {
					return usageError("An anchor is what an earlier 'conclave audit verify' printed as the last record.", "--anchor: %v", err)
				}
				o.Anchors = append(o.Anchors, head)
			}
			if cluster {
				heads, err := inv.clusterAnchors(files)
				if err != nil {
					return err
				}
				o.Anchors = append(o.Anchors, heads...)
			}
			report, err := audit.Verify(cmd.Context(), o)
			var fault *audit.Fault
			if err != nil && !errors.As(err, &fault) {
				return &failure{exitServer, err, "See whether the file can be read."}
			}
			if rerr := inv.render(report, func(w io.Writer) { tableReport(w, report) }); rerr != nil {
				return rerr
			}
			if fault != nil {
				return &failure{exitConflict, fault, "Compare with the copies of other sinks, and see who could write to the file."}
			}
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&anchors, "anchor", nil, "a `HEAD` that this log is known to have had, repeatable")
	cmd.Flags().BoolVar(&cluster, "cluster", false, "compare with the heads that the cluster has noted, too")
	return cmd
}

func tableReport(w io.Writer, r audit.Report) {
	fmt.Fprintf(w, "Node\t%s\nCluster\t%s\nFiles\t%d\nRecords\t%d\nFirst\t%d\nLast\t%s\nAnchors met\t%d\n",
		r.Node, r.Cluster, r.Files, r.Records, r.First, r.Last, r.Anchored)
	for _, c := range r.Cuts {
		fmt.Fprintf(w, "Crash\t%+v\n", c)
	}
	fmt.Fprintf(w, "Faults\t%d\n", r.FaultCount)
	for _, f := range r.Faults {
		fmt.Fprintf(w, "\t%s\n", f)
	}
}

// auditView is a record in JSON and YAML.
type auditView struct {
	Time      time.Time `json:"time"`
	Type      string    `json:"type"`
	Who       string    `json:"who"`
	Operation string    `json:"operation"`
	Path      string    `json:"path"`
	Outcome   string    `json:"outcome"`
	Reason    string    `json:"reason,omitempty"`
	Rule      any       `json:"rule,omitempty"`
	Error     string    `json:"error,omitempty"`
	Remote    string    `json:"remote,omitempty"`
	Node      string    `json:"node"`
	RequestID string    `json:"request_id,omitempty"`
}

func auditQuery(inv *invocation) *cobra.Command {
	var f audit.Filter
	var since, until time.Duration
	var outcome string
	var value bool
	cmd := &cobra.Command{
		Use:   "query FILE",
		Short: "Tell who did what, when and why",
		Long: "Prints the records of requests that pass all of the filters. With --value it reads a value from standard input or\n" +
			"the prompt, has a node hash it, and shows who sent it or was answered with it.",
		Example: `  conclave audit query data/audit/audit.log --path 'secret/data/prod/*' --since 24h
  conclave audit query data/audit/audit.log --who 'approle*' --outcome denied --format json
  printf %s "$LEAKED" | conclave audit query data/audit/audit.log --value`,
		Args: exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := auditFiles(args[0])
			if err != nil {
				return err
			}
			now := time.Now()
			if since > 0 {
				f.Since = now.Add(-since)
			}
			if until > 0 {
				f.Until = now.Add(-until)
			}
			f.Outcome = audit.Outcome(outcome)
			if err := checkValueFlags(value, f.Value); err != nil {
				return err
			}
			if value {
				text, err := inv.credential("value", "")
				if err != nil {
					return err
				}
				if f.Value, err = inv.auditHash(text); err != nil {
					return err
				}
			}
			found, damaged, err := queryAudit(cmd.Context(), files, f)
			if err != nil {
				return &failure{exitServer, err, "See whether the file can be read."}
			}
			if err := inv.render(found, func(w io.Writer) { tableRecords(w, found) }); err != nil {
				return err
			}
			if damaged > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "%d records could not be read: 'conclave audit verify %s' tells more.\n", damaged, args[0])
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.Path, "path", "", "only paths of this `PATTERN`: * is any characters, + one segment")
	flags.StringVar(&f.Who, "who", "", "only who has a display name of this `PATTERN`")
	flags.StringVar(&f.Operation, "operation", "", "only this `OPERATION`: read, list, create, update, patch, delete")
	flags.StringVar(&outcome, "outcome", "", "only this `OUTCOME`: ok, denied, failed, unknown")
	flags.StringVar(&f.RequestID, "request-id", "", "only the request with this `ID`")
	flags.BoolVar(&value, "value", false, "only requests that sent this value or were answered with it; it is read from the prompt or standard input")
	flags.StringVar(&f.Value, "value-hash", "", "the same, of a value with this `HASH` of 'conclave audit hash'")
	flags.DurationVar(&since, "since", 0, "only the last `DURATION`, such as 24h")
	flags.DurationVar(&until, "until", 0, "only what is older than `DURATION`")
	flags.BoolVar(&f.NewestFirst, "newest-first", false, "the newest first")
	flags.IntVar(&f.Limit, "limit", 1000, "at most `N` records; 0 for all")
	return cmd
}

// checkValueFlags refuses what cannot be searched for.
func checkValueFlags(value bool, hash string) error {
	switch {
	case value && hash != "":
		return usageError("Use one of them.", "--value and --value-hash are the same filter")
	case hash != "" && !audit.IsHash(hash):
		return usageError("Use what 'conclave audit hash' printed.", "--value-hash is not a hash of the audit log")
	}
	return nil
}

// queryAudit collects what passes the filter, and counts what could not be read.
func queryAudit(ctx context.Context, files []string, f audit.Filter) (found []auditView, damaged int, err error) {
	found = []auditView{}
	for r, err := range audit.Query(ctx, audit.Disk, files, f) {
		var fault *audit.Fault
		if errors.As(err, &fault) {
			damaged++
			continue
		}
		if err != nil {
			return nil, damaged, err
		}
		if f.Value != "" && strings.HasPrefix(r.Path, auditHashPath) {
			continue // whoever searches for a value sends it there
		}
		v := auditView{Time: r.Time, Type: string(r.Type), Who: r.Auth.DisplayName, Operation: r.Operation, Path: r.Path, Outcome: string(r.Outcome),
			Reason: r.Reason, Error: r.Error.Text, Remote: r.Remote, Node: r.Node, RequestID: r.RequestID}
		if r.Rule != (audit.Rule{}) {
			v.Rule = r.Rule
		}
		found = append(found, v)
	}
	return found, damaged, nil
}

func tableRecords(w io.Writer, records []auditView) {
	answered := map[string]bool{}
	for _, r := range records {
		answered[r.RequestID] = answered[r.RequestID] || r.Type == string(audit.TypeResponse)
	}
	fmt.Fprintln(w, "TIME\tWHO\tOPERATION\tPATH\tOUTCOME\tREASON\tREMOTE")
	for _, r := range records {
		if r.Type == string(audit.TypeRequest) {
			if answered[r.RequestID] {
				continue
			}
			r.Outcome = "not answered"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Time.Format(time.RFC3339), r.Who, r.Operation, r.Path, r.Outcome, r.Reason, r.Remote)
	}
}
