package real

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// checkCoverage demands a record of each answer about a secret and around access that
// a client has: for each secret, and each other path, the audit logs together hold no
// fewer answers of success than clients got. What was sent again and answered twice is
// counted once.
func (r *run) checkCoverage(ctx context.Context) {
	recorded, records := map[string]int{}, 0
	for i, dir := range r.allFiles() {
		files, err := audit.Files(audit.Disk, filepath.Join(dir, "audit", "audit.log"))
		if err != nil {
			r.report("looking for the audit log in %s: %v", dir, err)
			continue
		}
		for rec, err := range audit.Query(ctx, audit.Disk, files, audit.Filter{}) {
			if f := (*audit.Fault)(nil); i >= r.options.Nodes && errors.As(err, &f) && f.Kind == audit.FaultTorn {
				continue // killed, and never started again
			}
			if err != nil {
				r.report("reading the audit log in %s: %v", dir, err)
				continue
			}
			records++
			if rec.Type != audit.TypeRequest && rec.Outcome == audit.OutcomeOK {
				recorded[secretOf(rec.Path)]++
			}
		}
	}
	answered := map[string]int{}
	for _, o := range r.world.Book.Ops() {
		if o.Outcome != history.Done {
			continue
		}
		for _, what := range subjects(o) {
			answered[what]++
		}
	}
	for key, n := range answered {
		if recorded[key] < n {
			r.report("%d answers about %s are in the audit logs, which hold %d records, and clients got %d", recorded[key], key, records, n)
		}
	}
}

// subjects are what the answers to an op are about, as secretOf says it: leases have
// ids, and are not looked for.
func subjects(o *history.Op) (all []string) {
	switch o.Kind {
	case history.Put, history.Get, history.Delete, history.Undelete, history.Destroy:
		return []string{o.Key}
	}
	if model.IsAccess(o.Kind) {
		for _, path := range workload.Answered(o) {
			all = append(all, secretOf(path))
		}
	}
	return all
}

// secretOf is the secret that a request by path is about, or else the path.
func secretOf(path string) string {
	for _, verb := range []string{"data", "delete", "undelete", "destroy"} {
		if key, ok := strings.CutPrefix(path, "secret/"+verb+"/"); ok {
			return key
		}
	}
	return path
}
