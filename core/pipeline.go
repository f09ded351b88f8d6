package core

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// Pipeline is the way of every request, in one order for every transport:
// identify, authorise, run, commit. Safe for concurrent use.
type Pipeline struct {
	gate     *Gate
	ledger   Ledger
	rand     io.Reader
	views    *views
	lanes    *lanes
	receipts *receipts
	writable func() error
}

// Options is what a Pipeline is made of; all fields are required.
type Options struct {
	Gate   *Gate
	Ledger Ledger
	Clock  Clock
	Rand   io.Reader
	// Writable refuses writes while the node's disk is nearly full.
	Writable func() error
}

// NewPipeline assembles a pipeline.
func NewPipeline(o Options) *Pipeline {
	return &Pipeline{
		gate: o.Gate, ledger: o.Ledger, rand: o.Rand, lanes: newLanes(), writable: o.Writable,
		views:    &views{ledger: o.Ledger, clock: o.Clock},
		receipts: newReceipts(o.Ledger, o.Clock, o.Rand),
	}
}

// maxRequestTime bounds a request whose caller set no deadline, or a distant one.
const maxRequestTime = time.Minute

// maxAttempts bounds how often a write runs again because what it read has
// changed. Writers of one secret queue up on each node, so this counts rounds
// lost to other nodes.
const maxAttempts = 64

// method is an engine.Method over core's own transaction, which can do more.
type method[Req, Resp proto.Message] struct {
	name   string
	writes bool
	open   bool   // needs no token: the method checks a credential of its own
	mount  string // id of the mount that the transaction shows
	lane   func(Req) string
	handle func(*tx, Req) (Resp, error)
	finish func(Resp, engine.Commit)
}

// Call answers one request to an engine's method on the mount with the given id.
func Call[Req, Resp proto.Message](ctx context.Context, p *Pipeline, c Caller, mount string, m engine.Method[Req, Resp], req Req) (Resp, error) {
	return call(ctx, p, c, method[Req, Resp]{
		name: m.Name, writes: m.Writes, mount: mount,
		lane:   func(r Req) string { return mount + "/" + m.Path(r) },
		handle: func(t *tx, r Req) (Resp, error) { return m.Handle(t, r) },
		finish: m.Finish,
	}, req)
}

func call[Req, Resp proto.Message](ctx context.Context, p *Pipeline, c Caller, m method[Req, Resp], req Req) (resp Resp, err error) {
	ctx, cancel := context.WithTimeout(ctx, maxRequestTime)
	defer cancel()
	barrier, err := p.gate.Barrier()
	if err == nil {
		if m.writes {
			resp, err = write(ctx, p, barrier, c, m, req)
		} else {
			resp, err = read(ctx, p, barrier, c, m, req)
		}
	}
	if err != nil {
		var none Resp
		return none, explain(err, m.writes)
	}
	return resp, nil
}

// read answers from one view that is as fresh as the request demands.
func read[Req, Resp proto.Message](ctx context.Context, p *Pipeline, b *seal.Barrier, c Caller, m method[Req, Resp], req Req) (resp Resp, err error) {
	var options *conclavev1.ReadOptions
	if r, ok := any(req).(interface {
		GetRead() *conclavev1.ReadOptions
	}); ok {
		options = r.GetRead()
	}
	view, err := p.views.open(ctx, options)
	if err != nil {
		return resp, err
	}
	defer closeView(view, &err)
	t := newTx(view, b, false).on(m.mount)
	if _, err := t.admit(c, m.open); err != nil {
		return resp, err
	}
	if resp, err = m.handle(t, req); err != nil {
		return resp, err
	}
	m.finish(resp, engine.Commit{Index: view.Index(), Time: t.Now()})
	return resp, nil
}

// admit identifies and authorises the caller; nobody, where the door is open.
func (t *tx) admit(c Caller, open bool) (*identity, error) {
	if open {
		return nil, nil
	}
	who, err := t.identify(c)
	if err != nil {
		return nil, err
	}
	return who, who.authorise()
}

// attempt is one run of a write on one view.
type attempt[Resp proto.Message] struct {
	index   uint64 // of the view
	resp    Resp
	replay  bool // resp is the kept answer of an earlier run, at commit
	commit  engine.Commit
	batch   *fsm.Batch
	receipt *receipt
}

// write runs the method on newer and newer views until its batch commits, or a
// refusal is confirmed. The first view is whatever this node has: what is stale
// in it the guards find out.
func write[Req, Resp proto.Message](ctx context.Context, p *Pipeline, b *seal.Barrier, c Caller, m method[Req, Resp], req Req) (resp Resp, err error) {
	if err := p.writable(); err != nil {
		return resp, err
	}
	leave, err := p.lanes.enter(ctx, m.lane(req))
	if err != nil {
		return resp, err
	}
	defer leave()
	var atLeast uint64
	for range maxAttempts {
		a, err := run(ctx, p, b, c, m, req, atLeast)
		if err != nil {
			// atLeast was confirmed while this request was under way, so a view
			// that reflects it has all that was acknowledged before. To confirm
			// once more would never end while others write.
			if !restsOnView(err) || atLeast > 0 {
				return resp, err
			}
			// The refusal rests on a view that may be old; it counts once the
			// view is known to be current.
			index, current, cerr := p.current(ctx, a.index)
			if cerr != nil {
				return resp, cerr
			}
			if current {
				return resp, err
			}
			atLeast = index
			continue
		}
		if a.replay || len(a.batch.Operations) == 0 {
			m.finish(a.resp, a.commit)
			return a.resp, nil
		}
		result, err := p.ledger.Propose(ctx, a.batch)
		if err != nil {
			return resp, err
		}
		switch result.Code {
		case fsm.Applied:
			m.finish(a.resp, engine.Commit{Index: result.Index, Time: result.Time.Time()})
			return a.resp, nil
		case fsm.Conflict:
			if a.receipt != nil && result.Guard == a.receipt.guard {
				p.receipts.drop(a.receipt.lease)
			}
			atLeast = result.Index
		case fsm.Refused:
			return resp, refusedBatch(result.Reason)
		default:
			return resp, errUnknown()
		}
	}
	return resp, refuse(conclavev1.Reason_REASON_CONFLICT, "others kept changing what this request depends on", "try again")
}

// restsOnView tells whether an error is a refusal that another view could lift.
func restsOnView(err error) bool {
	var (
		own     *Error
		missing *engine.NotFoundError
		gone    *engine.GoneError
		cas     *engine.CheckAndSetError
	)
	return errors.As(err, &own) || errors.As(err, &missing) || errors.As(err, &gone) || errors.As(err, &cas)
}

// current tells whether a view at index reflects everything acknowledged by
// now, and which index does.
func (p *Pipeline) current(ctx context.Context, index uint64) (uint64, bool, error) {
	confirmed, err := p.views.confirm(ctx)
	return confirmed, index >= confirmed, err
}

// run evaluates a write on a view at or after atLeast, 0 for the first time.
//
// The first time it does not look whether the request was carried out before:
// almost none was, and the guard on the receipt finds those that were. Then, and
// when the method refuses, which may be because its work is done, it looks.
func run[Req, Resp proto.Message](ctx context.Context, p *Pipeline, b *seal.Barrier, c Caller, m method[Req, Resp], req Req, atLeast uint64) (a attempt[Resp], err error) {
	var receiptLease fsm.Key
	key := idempotencyKey(req)
	if key != "" {
		if receiptLease, err = p.receipts.current(ctx); err != nil {
			return a, err
		}
	}
	view, err := p.views.at(ctx, atLeast)
	if err != nil {
		return a, err
	}
	defer closeView(view, &err)
	t := newTx(view, b, true).on(m.mount)
	a.index, a.batch = view.Index(), &t.batch
	a.commit = engine.Commit{Index: view.Index(), Time: t.Now()}
	who, err := t.admit(c, m.open)
	if err != nil {
		return a, err
	}
	if key != "" && who != nil {
		if a.receipt, err = newReceipt(b, who, m.name, key, req, receiptLease); err != nil {
			return a, err
		}
		if atLeast > 0 {
			if err := a.answeredBefore(t); err != nil || a.replay {
				return a, err
			}
		}
	}
	if a.resp, err = m.handle(t, req); err != nil {
		if a.receipt != nil && restsOnView(err) {
			if err := a.answeredBefore(t); err != nil || a.replay {
				return a, err
			}
		}
		return a, err
	}
	if a.receipt != nil {
		err = a.receipt.keep(t, a.resp)
	}
	return a, err
}

// answeredBefore makes the attempt a replay if the request has a receipt.
func (a *attempt[Resp]) answeredBefore(t *tx) error {
	kept, commit, err := a.receipt.find(t)
	if err != nil || kept == nil {
		return err
	}
	a.replay, a.commit = true, commit
	a.resp = a.resp.ProtoReflect().New().Interface().(Resp)
	return proto.Unmarshal(kept.Response, a.resp)
}

func idempotencyKey(req any) string {
	if r, ok := req.(interface {
		GetWrite() *conclavev1.WriteOptions
	}); ok {
		return r.GetWrite().GetIdempotencyKey()
	}
	return ""
}

func closeView(v *fsm.View, err *error) {
	if cerr := v.Close(); *err == nil {
		*err = cerr
	}
}

// Authorise checks the caller's token for an act on this node that is not a
// request to an engine. A local check does without a quorum, so that a node can
// be sealed, and its members looked at, when the cluster has no leader.
func (p *Pipeline) Authorise(ctx context.Context, c Caller, local bool) (err error) {
	barrier, err := p.gate.Barrier()
	if err != nil {
		return explain(err, false)
	}
	options := &conclavev1.ReadOptions{}
	if local {
		options.Consistency = conclavev1.Consistency_CONSISTENCY_LOCAL
	}
	view, err := p.views.open(ctx, options)
	if err != nil {
		return explain(err, false)
	}
	defer closeView(view, &err)
	if _, err := newTx(view, barrier, false).admit(c, false); err != nil {
		return explain(err, false)
	}
	return nil
}
