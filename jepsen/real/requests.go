package real

import (
	"context"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/workload"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// asked says what the clients ask for. The leases are short, so that they expire while
// a run lasts.
func (r *run) asked() workload.Options {
	return workload.Options{Mix: workload.OfAPI(), Canary: r.canary + " ", Pause: 25 * time.Millisecond, MaxAge: 200 * time.Millisecond,
		TTLs: []time.Duration{time.Second, 3 * time.Second, 10 * time.Second}}
}

// call sends o to a node and puts what comes back into a.
func call(ctx context.Context, c *client.Client, o *history.Op, key string, a *workload.Answer) (err error) {
	write := client.WriteOptions{IdempotencyKey: key, NoIdempotencyKey: key == ""}
	var lease client.Lease
	switch o.Kind {
	case history.Put:
		var done client.Written
		done, err = c.Secrets.Put(ctx, o.Key, client.Data{"value": client.Text(o.Value)}, client.PutOptions{CAS: o.CAS, WriteOptions: write})
		a.Number, a.Index = done.Version.Number, done.Index
	case history.Get:
		var got client.Secret
		got, err = c.Secrets.Get(ctx, o.Key, client.GetOptions{Version: o.Version, Consistency: levelOf(o)})
		a.Number, a.Index, a.Read = got.Version.Number, got.Index, string(got.Data["value"].Reveal())
	case history.Delete:
		a.Index, err = c.Secrets.Delete(ctx, o.Key, nil, write)
	case history.Undelete:
		a.Index, err = c.Secrets.Undelete(ctx, o.Key, []uint64{o.Version}, write)
	case history.Destroy:
		a.Index, err = c.Secrets.Destroy(ctx, o.Key, []uint64{o.Version}, write)
	case history.Grant:
		lease, err = c.Leases.Grant(ctx, client.LeaseRequest{Prefix: "jobs", TTL: o.TTL, MaxTTL: 6 * o.TTL, WriteOptions: write})
	case history.Renew:
		lease, err = c.Leases.Renew(ctx, o.Key, o.TTL, write)
	case history.Revoke:
		a.Index, err = c.Leases.Revoke(ctx, o.Key, write)
	case history.Lookup:
		lease, err = c.Leases.Lookup(ctx, o.Key, client.Linearizable())
	}
	if lease.ID != "" {
		a.ID, a.Number, a.Index, a.Expires = lease.ID, lease.Generation, lease.Index, lease.ExpiresAt.UTC()
	}
	return err
}

// servePath sends a request of o by its path through the SDK.
func (w *worker) servePath(ctx context.Context, o *history.Op, node int, q workload.Request) (*workload.Reply, error) {
	c := w.nodes[node]
	if q.Token.Len() > 0 {
		var err error
		if c, err = c.WithToken(client.NewToken(string(q.Token.Expose()))); err != nil {
			return nil, err
		}
	}
	var got *client.Answer
	var err error
	if q.Body == nil {
		got, err = c.Paths.Read(ctx, q.Path, client.PathOptions{})
	} else {
		got, err = c.Paths.Write(ctx, q.Path, q.Body, client.PathOptions{WrapTTL: q.Wrap})
	}
	if err != nil {
		return nil, w.run.failure(o, err)
	}
	if got.Missing {
		return nil, &workload.Failure{Reason: conclavev1.Reason_REASON_NOT_FOUND}
	}
	reply := &workload.Reply{Index: got.Index}
	switch {
	case got.Auth != nil:
		reply.Token = redact.New([]byte(got.Auth.Token.Reveal()))
	case got.Wrap != nil:
		reply.Token = redact.New([]byte(got.Wrap.Token.Reveal()))
	case !got.Data.IsZero():
		var data struct {
			Text string `json:"text"`
		}
		err = got.Decode(&data)
		reply.Text = data.Text
	}
	return reply, err
}

func levelOf(o *history.Op) client.Consistency {
	switch o.Level {
	case conclavev1.Consistency_CONSISTENCY_LOCAL:
		return client.Local()
	case conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX:
		return client.AtLeast(o.AtLeast)
	case conclavev1.Consistency_CONSISTENCY_BOUNDED:
		return client.Bounded(o.MaxAge)
	}
	return client.Linearizable()
}

// reasonOf is the reason as the API numbers it; 0 for the client's own.
func reasonOf(r client.Reason) conclavev1.Reason {
	return conclavev1.Reason(conclavev1.Reason_value["REASON_"+strings.ToUpper(string(r))])
}
