package sys

import (
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// leases is what the routes of this file need of a transaction.
type leases interface {
	LookupLease(r *conclavev1.LookupLeaseRequest) (*conclavev1.LookupLeaseResponse, error)
	RenewLease(r *conclavev1.RenewLeaseRequest) (*conclavev1.RenewLeaseResponse, error)
	RevokeLease(r *conclavev1.RevokeLeaseRequest) (*conclavev1.RevokeLeaseResponse, error)
	ListLeases(r *conclavev1.ListLeasesRequest) (*conclavev1.ListLeasesResponse, error)
}

type leaseRequest struct {
	LeaseID   string          `json:"lease_id" doc:"the lease"`
	URLID     string          `json:"url_lease_id" doc:"the same, where the path names it"`
	Increment engine.Duration `json:"increment" doc:"how long it shall live from now; 0: as long as at first"`
	Sync      engine.Bool     `json:"sync" doc:"accepted: the lease has ended when this is answered"`
}

type namedLease struct {
	Path string `path:"path" doc:"the lease"`
	leaseRequest
}

// id is the lease that a request names, in its path or in its body.
func (r *namedLease) id() (string, error) {
	var named string
	for _, id := range []string{r.LeaseID, r.Path, r.URLID} {
		id = strings.Trim(id, "/")
		switch {
		case named == "":
			named = id
		case id != "" && id != named: // rules judge by the path
			return "", &engine.InvalidError{Why: "the path and the body name two leases"}
		}
	}
	if named == "" {
		return "", &engine.InvalidError{Why: "lease_id must be specified"}
	}
	return named, nil
}

type leasePrefix struct {
	Prefix string `path:"prefix" doc:"what the leases start with"`
}

func leaseRoutes() []engine.Route {
	var routes []engine.Route
	add := func(r engine.Route) { routes = append(routes, r) }
	write := func(path, summary string) engine.Route {
		return engine.Route{Verb: engine.VerbWrite, Path: path, Writes: true, Summary: summary}
	}
	for _, prefix := range []string{"leases/", ""} { // the second: names of old
		add(engine.NewRoute(write(prefix+"renew/{path*}", "Renew a lease."), renewLease))
		add(engine.NewRoute(write(prefix+"revoke/{path*}", "Revoke a lease, with what it owns."), revokeLease))
		for _, all := range []string{"revoke-prefix", "revoke-force"} {
			r := write(prefix+all+"/{prefix...}", "Revoke all leases below a prefix.")
			r.Sudo = true
			add(engine.NewRoute(r, revokeLeases))
		}
	}
	add(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "leases/lookup/{path*}", Summary: "Describe a lease."}, lookupLease))
	add(engine.NewRoute(engine.Route{Verb: engine.VerbList, Path: "leases/lookup/{prefix*}", Sudo: true, Summary: "List the leases below a prefix."}, listLeases))
	add(engine.NewRoute(engine.Route{Verb: engine.VerbWrite, Path: "leases/tidy", Sudo: true, Summary: "Accepted: there is nothing to tidy."}, tidyLeases))
	return routes
}

// known turns the refusal of a lease that is not there into the words of the API.
func known(err error) error {
	var e *core.Error
	if errors.As(err, &e) && e.Reason == conclavev1.Reason_REASON_NOT_FOUND {
		return &engine.InvalidError{Why: "lease not found"}
	}
	var path *engine.PathError
	if errors.As(err, &path) {
		return &engine.InvalidError{Why: "invalid lease"}
	}
	return err
}

type leaseData struct {
	ID          string  `json:"id"`
	IssueTime   string  `json:"issue_time"`
	ExpireTime  string  `json:"expire_time"`
	LastRenewal *string `json:"last_renewal"`
	Renewable   bool    `json:"renewable"`
	TTL         int64   `json:"ttl"`
}

func lookupLease(c *engine.Call, r *namedLease) (*leaseData, error) {
	id, err := r.id()
	if err != nil {
		return nil, err
	}
	found, err := ask[leases](c).LookupLease(&conclavev1.LookupLeaseRequest{Id: id})
	if err != nil {
		return nil, known(err)
	}
	l := found.Lease
	return &leaseData{ID: l.Id, IssueTime: nanos(l.IssuedAt), ExpireTime: nanos(l.ExpiresAt), Renewable: true,
		TTL: int64(max(l.ExpiresAt.AsTime().Sub(c.Now()), 0) / time.Second)}, nil
}

func nanos(t *timestamppb.Timestamp) string { return t.AsTime().Format(time.RFC3339Nano) }

func renewLease(c *engine.Call, r *namedLease) (*none, error) {
	id, err := r.id()
	if err != nil {
		return nil, err
	}
	renewed, err := ask[leases](c).RenewLease(&conclavev1.RenewLeaseRequest{Id: id, Ttl: durationpb.New(time.Duration(r.Increment))})
	if err != nil {
		return nil, known(err)
	}
	ttl := renewed.Lease.Ttl.AsDuration()
	if limit := renewed.Lease.MaxExpiresAt; limit != nil {
		ttl = min(ttl, limit.AsTime().Sub(c.Now()))
	}
	c.Leased(id, ttl, true)
	return nil, nil
}

// revokeLease ends a lease. One that is not there has ended.
func revokeLease(c *engine.Call, r *namedLease) (*none, error) {
	id, err := r.id()
	if err != nil {
		return nil, err
	}
	_, err = ask[leases](c).RevokeLease(&conclavev1.RevokeLeaseRequest{Id: id})
	var e *core.Error
	if errors.As(err, &e) && e.Reason == conclavev1.Reason_REASON_NOT_FOUND {
		return nil, nil
	}
	return nil, known(err)
}

func revokeLeases(c *engine.Call, r *leasePrefix) (*none, error) {
	_, err := ask[leases](c).RevokeLease(&conclavev1.RevokeLeaseRequest{Id: r.Prefix, Prefix: true})
	return nil, known(err)
}

// tidyLeases has nothing to do: a lease and what it owns end in one entry of the log,
// so nothing is ever left over.
func tidyLeases(c *engine.Call, _ *struct{}) (*none, error) {
	c.Warn("there is nothing to tidy: a lease ends together with what it owns")
	return nil, nil
}

type leaseKeys struct {
	Keys []string `json:"keys"`
}

// listLeases lists the names directly below a prefix: a lease is the last segment
// of its id, what is deeper ends in a slash.
func listLeases(c *engine.Call, r *leasePrefix) (*leaseKeys, error) {
	prefix := strings.Trim(r.Prefix, "/")
	found, err := ask[leases](c).ListLeases(&conclavev1.ListLeasesRequest{Prefix: prefix})
	if err != nil {
		return nil, known(err)
	}
	out := &leaseKeys{}
	for _, l := range found.Leases {
		name := strings.TrimPrefix(strings.TrimPrefix(l.Id, prefix), "/")
		if first, _, deeper := strings.Cut(name, "/"); deeper {
			name = first + "/"
		}
		if n := len(out.Keys); n == 0 || out.Keys[n-1] != name {
			out.Keys = append(out.Keys, name)
		}
	}
	if found.More {
		c.Warn("there are more leases than are listed")
	}
	if len(out.Keys) == 0 {
		return nil, &engine.NotFoundError{What: "lease"}
	}
	return out, nil
}
