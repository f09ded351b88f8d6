package core_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/core"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Pages that go on from a cursor show every lease below the prefix once, and no other;
// those of leases that end soon, the next to end first.
func TestLeasePages(t *testing.T) {
	o := newOffice(t)
	leases := core.NewLeases(o.pipeline)
	var all, soon []string
	for i := range 40 {
		ttl := time.Duration(40-i) * time.Minute
		for _, prefix := range []string{"jobs/a", "other"} {
			made, err := leases.Grant(t.Context(), o.root, &conclavev1.GrantLeaseRequest{Prefix: prefix, Ttl: durationpb.New(ttl)})
			if err != nil {
				t.Fatal(err)
			}
			if prefix == "jobs/a" {
				all = append(all, made.Lease.Id)
				if ttl <= 15*time.Minute {
					soon = append(soon, made.Lease.Id)
				}
			}
		}
	}
	slices.Reverse(soon)
	walk := func(r *conclavev1.ListLeasesRequest) (ids []string) {
		t.Helper()
		r.Prefix, r.Limit = "jobs", 7
		for range 100 {
			page, err := leases.List(t.Context(), o.root, r)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range page.Leases {
				ids = append(ids, l.Id)
			}
			if page.More != (len(page.Cursor) > 0) {
				t.Errorf("more is %v, with a cursor of %d bytes", page.More, len(page.Cursor))
			}
			if !page.More {
				return ids
			}
			r.Cursor = page.Cursor
		}
		t.Fatal("the pages do not end")
		return nil
	}
	if got := walk(&conclavev1.ListLeasesRequest{ExpiringWithin: durationpb.New(15 * time.Minute)}); !slices.Equal(got, soon) {
		t.Errorf("ending soon are %q\nwant %q", got, soon)
	}
	got := walk(&conclavev1.ListLeasesRequest{Unsorted: true})
	slices.Sort(got)
	slices.Sort(all)
	if !slices.Equal(got, all) {
		t.Errorf("%d leases, want %d", len(got), len(all))
	}
	for name, r := range map[string]*conclavev1.ListLeasesRequest{
		"a cursor of another listing": {Prefix: "jobs", Unsorted: true, Cursor: bytes.Repeat([]byte{0x12}, 40)},
		"after an id":                 {Prefix: "jobs", Unsorted: true, After: all[0]},
	} {
		if page, err := leases.List(t.Context(), o.root, r); err == nil {
			t.Errorf("%s: %d leases", name, len(page.Leases))
		}
	}
	// What makes no sense as a place in the order of time shows nothing that it should not.
	for _, cursor := range [][]byte{{0}, {0xff}, fmt.Append(nil, "garbage that is longer than eight bytes")} {
		page, err := leases.List(t.Context(), o.root, &conclavev1.ListLeasesRequest{Prefix: "jobs", ExpiringWithin: durationpb.New(time.Hour), Cursor: cursor})
		if err != nil {
			continue
		}
		for _, l := range page.Leases {
			if !slices.Contains(all, l.Id) {
				t.Errorf("with the cursor %q: %s", cursor, l.Id)
			}
		}
	}
}
