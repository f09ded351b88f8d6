package real

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/jepsen/history"
)

// checkCoverage demands a record of each answer about a secret that a client has:
// for each secret, the audit logs together hold no fewer answers of success than
// clients got. What was sent again and answered twice is counted once.
func (r *run) checkCoverage(ctx context.Context) {
	recorded, records := map[string]int{}, 0
	for i, n := range r.cluster.Nodes {
		files, err := audit.Files(audit.Disk, filepath.Join(n.DataDir, "audit", "audit.log"))
		if err != nil {
			r.report("looking for the audit log of node %d: %v", i, err)
			continue
		}
		for rec, err := range audit.Query(ctx, audit.Disk, files, audit.Filter{}) {
			if err != nil {
				r.report("reading the audit log of node %d: %v", i, err)
				continue
			}
			records++
			if rec.Type != audit.TypeRequest && rec.Outcome == audit.OutcomeOK {
				recorded[secretOf(rec.Path)]++
			}
		}
	}
	answered := map[string]int{}
	for _, o := range r.book.Ops() {
		if o.Outcome == history.Done && isSecret(o.Key) {
			answered[o.Key]++
		}
	}
	for key, n := range answered {
		if recorded[key] < n {
			r.report("%d answers about %s are in the audit logs, which hold %d records, and clients got %d", recorded[key], key, records, n)
		}
	}
}

func isSecret(key string) bool {
	return strings.HasPrefix(key, "app/secret-") || strings.HasPrefix(key, "pace/")
}

// secretOf is the secret that a request by path is about.
func secretOf(path string) string {
	for _, verb := range []string{"data", "delete", "undelete", "destroy"} {
		if key, ok := strings.CutPrefix(path, "secret/"+verb+"/"); ok {
			return key
		}
	}
	return path
}
