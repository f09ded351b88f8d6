package core_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/internal/redact"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// A tree shows what ends with its root, and nothing else; one's own needs no sudo.
func TestLeaseTree(t *testing.T) {
	o, _ := newAgency(t)
	leases := core.NewLeases(o.pipeline)
	parent, auth := o.token(`{"policies": ["root"], "display_name": "parent"}`)
	made := o.must(parent, engine.VerbWrite, "auth/token/create", `{"display_name": "child", "policies": ["root"]}`).Auth
	child := core.Caller{Token: redact.New(made.Text)}
	o.must(child, engine.VerbWrite, "acct/creds/pg", `{"name": "a"}`)
	o.must(o.root, engine.VerbWrite, "acct/creds/pg", `{"name": "b"}`)
	show := func(c core.Caller, r *conclavev1.TreeLeasesRequest) string {
		t.Helper()
		tree, err := leases.Tree(t.Context(), c, r)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, n := range tree.Nodes {
			name, _, _ := strings.Cut(n.Id, "/pg/")
			fmt.Fprintf(&b, "%s%s%s %s\n", strings.Repeat(" ", int(n.Depth)), name, n.DisplayName, n.State)
		}
		return b.String()
	}
	const want = "token-parent active\n token-child active\n  acct/creds active\n"
	if got := show(o.root, &conclavev1.TreeLeasesRequest{Accessor: auth.Token.Accessor}); got != want {
		t.Errorf("by accessor:\n%swant\n%s", got, want)
	}
	if got := show(parent, &conclavev1.TreeLeasesRequest{}); got != want {
		t.Errorf("the own:\n%swant\n%s", got, want)
	}
	owner, err := leases.Grant(t.Context(), o.root, &conclavev1.GrantLeaseRequest{Prefix: "jobs", Ttl: durationpb.New(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leases.Grant(t.Context(), o.root, &conclavev1.GrantLeaseRequest{Prefix: "jobs", Ttl: durationpb.New(time.Hour), Owner: owner.Lease.Id}); err != nil {
		t.Fatal(err)
	}
	if got := show(o.root, &conclavev1.TreeLeasesRequest{Id: owner.Lease.Id}); strings.Count(got, "\n") != 2 || !strings.Contains(got, "\n jobs/") {
		t.Errorf("of a lease:\n%s", got)
	}
	o.must(o.root, engine.VerbWrite, "sys/policies/acl/self", `{"policy": "path \"sys/leases/tree*\" { capabilities = [\"list\"] }"}`)
	weak, _ := o.token(`{"policies": ["self"]}`)
	show(weak, &conclavev1.TreeLeasesRequest{})
	_, err = leases.Tree(t.Context(), weak, &conclavev1.TreeLeasesRequest{Accessor: auth.Token.Accessor})
	wants(t, err, conclavev1.Reason_REASON_DENIED)
	_, err = leases.Tree(t.Context(), o.root, &conclavev1.TreeLeasesRequest{Accessor: "nobody"})
	wants(t, err, conclavev1.Reason_REASON_NOT_FOUND)
}

// A tree that is too large says so.
func TestLargeLeaseTree(t *testing.T) {
	o := newOffice(t)
	c, _ := o.token(`{"policies": ["root"]}`)
	for range 1010 {
		o.must(c, engine.VerbWrite, "auth/token/create", `{}`)
	}
	tree, err := core.NewLeases(o.pipeline).Tree(t.Context(), c, &conclavev1.TreeLeasesRequest{})
	if err != nil || !tree.More || len(tree.Nodes) != 1000 {
		t.Errorf("%d nodes, more %v, %v", len(tree.GetNodes()), tree.GetMore(), err)
	}
}
