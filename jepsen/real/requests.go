package real

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/client"
	"github.com/conclave-secrets/conclave/jepsen/history"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// The clients contend for a few secrets at a time and leave them for others after
// a while: the search for an order takes longer the more requests a secret has had.
const (
	secretsAtATime = 4
	requestsEach   = 90
)

// secretNow is one of the secrets of the moment.
func (w *worker) secretNow() string {
	age := w.run.sent.Add(1) / (secretsAtATime * requestsEach)
	return secretPath(age, w.rng.IntN(secretsAtATime))
}

func secretPath(age int64, i int) string { return fmt.Sprintf("app/secret-%d-%d", age, i) }

// secretsSoFar are all that were ever asked for.
func (r *run) secretsSoFar() (paths []string) {
	for age := range r.sent.Load()/(secretsAtATime*requestsEach) + 1 {
		for i := range secretsAtATime {
			paths = append(paths, secretPath(age, i))
		}
	}
	for i := range pacers {
		for age := range r.paced[i].Load()/requestsEach + 1 {
			paths = append(paths, pacePath(i, age))
		}
	}
	return paths
}

// granted is a lease that some client got.
type granted struct {
	id  string
	ttl time.Duration
}

func (r *run) keepLease(l granted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leases = append(r.leases, l)
}

func (r *run) knownLeases() []granted {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.leases[max(0, len(r.leases)-100):])
}

// pick chooses the next request.
func (w *worker) pick() *history.Op {
	if w.rng.Float64() < 0.3 {
		return w.pickLease()
	}
	path := w.secretNow()
	switch p := w.rng.Float64(); {
	case p < 0.38:
		return w.pickRead(path)
	case p < 0.62:
		return w.secretOp(history.Put, path)
	case p < 0.84:
		o := w.secretOp(history.Put, path)
		current := w.versions[path]
		o.CAS = &current
		return o
	case p < 0.91:
		return w.secretOp(history.Delete, path)
	case p < 0.97:
		return w.versioned(history.Undelete, path)
	default:
		return w.versioned(history.Destroy, path)
	}
}

func (w *worker) pickRead(path string) *history.Op {
	o := w.secretOp(history.Get, path)
	switch p := w.rng.Float64(); {
	case p < 0.1 && w.versions[path] > 0:
		o.Version = w.versions[path]
	case p < 0.2:
		o.Level = conclavev1.Consistency_CONSISTENCY_LOCAL
	case p < 0.3:
		o.Level, o.AtLeast = conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX, w.seen
	case p < 0.4:
		o.Level, o.MaxAge = conclavev1.Consistency_CONSISTENCY_BOUNDED, 200*time.Millisecond
	}
	return o
}

func (w *worker) secretOp(kind history.Kind, path string) *history.Op {
	o := &history.Op{Kind: kind, Key: path}
	if kind == history.Put {
		o.Value = fmt.Sprintf("%s %d-%d", w.run.canary, w.id, w.serial)
	}
	return o
}

// versioned is a change of a version that the client has heard of, or guesses.
func (w *worker) versioned(kind history.Kind, path string) *history.Op {
	o := w.secretOp(kind, path)
	o.Version = max(1, w.versions[path])
	return o
}

// leaseTTLs are short, so that leases expire while a run lasts.
var leaseTTLs = []time.Duration{time.Second, 3 * time.Second, 10 * time.Second}

func (w *worker) pickLease() *history.Op {
	leases := w.run.knownLeases()
	if len(leases) == 0 || w.rng.Float64() < 0.2 {
		return &history.Op{Kind: history.Grant, TTL: leaseTTLs[w.rng.IntN(len(leaseTTLs))]}
	}
	recent := leases[max(0, len(leases)-8):]
	l := recent[w.rng.IntN(len(recent))]
	switch p := w.rng.Float64(); {
	case p < 0.5:
		return leaseOp(history.Lookup, l)
	case p < 0.9:
		return leaseOp(history.Renew, l)
	default:
		return leaseOp(history.Revoke, l)
	}
}

func leaseOp(kind history.Kind, l granted) *history.Op {
	return &history.Op{Kind: kind, Key: l.id, TTL: l.ttl}
}

// call sends o to a node and puts what comes back into a.
func (w *worker) call(ctx context.Context, c *client.Client, o *history.Op, key string, a *answer) (err error) {
	write := client.WriteOptions{IdempotencyKey: key, NoIdempotencyKey: key == ""}
	var lease client.Lease
	switch o.Kind {
	case history.Put:
		var done client.Written
		done, err = c.Secrets.Put(ctx, o.Key, client.Data{"value": client.Text(o.Value)}, client.PutOptions{CAS: o.CAS, WriteOptions: write})
		a.number, a.index = done.Version.Number, done.Index
	case history.Get:
		var got client.Secret
		got, err = c.Secrets.Get(ctx, o.Key, client.GetOptions{Version: o.Version, Consistency: levelOf(o)})
		a.number, a.index, a.read = got.Version.Number, got.Index, string(got.Data["value"].Reveal())
	case history.Delete:
		a.index, err = c.Secrets.Delete(ctx, o.Key, nil, write)
	case history.Undelete:
		a.index, err = c.Secrets.Undelete(ctx, o.Key, []uint64{o.Version}, write)
	case history.Destroy:
		a.index, err = c.Secrets.Destroy(ctx, o.Key, []uint64{o.Version}, write)
	case history.Grant:
		lease, err = c.Leases.Grant(ctx, client.LeaseRequest{Prefix: "jobs", TTL: o.TTL, MaxTTL: 6 * o.TTL, WriteOptions: write})
	case history.Renew:
		lease, err = c.Leases.Renew(ctx, o.Key, o.TTL, write)
	case history.Revoke:
		a.index, err = c.Leases.Revoke(ctx, o.Key, write)
	case history.Lookup:
		lease, err = c.Leases.Lookup(ctx, o.Key, client.Linearizable())
	}
	if lease.ID != "" {
		a.id, a.number, a.index, a.expires = lease.ID, lease.Generation, lease.Index, lease.ExpiresAt.UTC()
	}
	return err
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
