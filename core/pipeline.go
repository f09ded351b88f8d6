package core

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/policy"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Pipeline is the way of every request, in one order for every transport:
// route, identify, authorise, handle, commit. Safe for concurrent use.
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

// request is one request on its way, whatever the transport and its types.
type request struct {
	caller Caller
	id     string // names it in the audit log and in its answer; made by do
	body   []byte // what was sent, as JSON, for the audit log; may be nil
	name   string // as receipts call it
	writes bool
	lane   string
	read   *conclavev1.ReadOptions
	// message is the request that a receipt stands for, key its idempotency key;
	// "": there is none. empty and finish make the answer of a receipt anew.
	message proto.Message
	key     string
	empty   func() proto.Message
	finish  func(any, engine.Commit)
	// route finds who answers, on one view.
	route func(*tx) (*plan, error)
}

// plan is a request routed on one view.
type plan struct {
	access policy.Request
	mount  *mount // nil: it needs none, or there is none
	open   bool   // needs no token
	missed error  // nothing answers; told to those who may ask
	// creates tells, of a write, whether it makes what is not there yet; nil: never.
	creates func() (bool, error)
	handle  func() (reply, error)
}

// reply is what a handler's run came to.
type reply struct {
	value  any
	finish func(engine.Commit)
	wrap   *wrapping // nil: the answer goes out as it is
	intent *intent   // to be carried out before the answer goes out; nil: none
	again  bool      // the request goes on after the commit; see engine.Call.Again
	// refusal is what the request fails with once what it staged is committed:
	// a failed login that is counted.
	refusal error
}

// answer finishes the reply with what the commit told.
func (r *reply) answer(c engine.Commit) (any, error) {
	if r.refusal != nil {
		return nil, r.refusal
	}
	r.finish(c)
	return r.value, nil
}

// do carries out a request and returns its reply, finished.
func (p *Pipeline) do(ctx context.Context, r *request) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, maxRequestTime)
	defer cancel()
	keys, err := p.gate.open()
	if err == nil {
		r.id, err = auth.NewUUID(p.rand)
	}
	if err != nil {
		return nil, explain(err, r.writes)
	}
	account := newAccount(keys.recorder, r)
	defer account.leave() // also after a panic
	value, err := p.carryOut(ctx, keys, r, account)
	var refusal *Error
	if err != nil {
		refusal = explain(err, r.writes)
	}
	if err := account.answer(ctx, value, refusal); err != nil {
		return nil, explain(err, r.writes)
	}
	if refusal != nil {
		return nil, refusal
	}
	return value, nil
}

func (p *Pipeline) carryOut(ctx context.Context, keys *keys, r *request, a *account) (any, error) {
	if err := r.caller.checkReason(); err != nil {
		return nil, err
	}
	if r.writes {
		return p.write(ctx, keys, r, a, 0)
	}
	value, err := p.answer(ctx, keys, r, a)
	if !errors.Is(err, errStaged) {
		return value, err
	}
	// A read that leaves something behind is a write on a current view.
	index, err := p.views.confirm(ctx)
	if err != nil {
		return nil, err
	}
	return p.write(ctx, keys, r, a, index)
}

// errStaged ends a read that has staged something: a use of its token, a wrapped answer.
var errStaged = errors.New("the read has something to commit")

// answer reads from one view that is as fresh as the request demands.
func (p *Pipeline) answer(ctx context.Context, keys *keys, r *request, a *account) (value any, err error) {
	view, err := p.views.open(ctx, r.read)
	if err != nil {
		return nil, err
	}
	defer closeView(view, &err)
	t := newTx(view, keys, p.rand, false)
	t.account = a
	reply, err := t.run(r)
	if err != nil {
		return nil, err
	}
	if len(t.batch.Operations) > 0 {
		return nil, errStaged
	}
	return reply.answer(engine.Commit{Index: view.Index(), Time: t.Now()})
}

// run takes a request through its stages on the transaction's view.
func (t *tx) run(r *request) (reply, error) {
	plan, err := t.admit(r)
	if err != nil {
		return t.refused(err)
	}
	return t.handle(plan)
}

// refused is what becomes of a request that fails. That costs a use of a token with a
// limit, too: else such a token could try for ever.
func (t *tx) refused(err error) (reply, error) {
	if t.who == nil || t.who.token.UsesLeft == 0 || !restsOnView(err) {
		return reply{}, err
	}
	t.batch.Operations = nil
	if err := t.use(t.who); err != nil {
		return reply{}, err
	}
	return reply{refusal: err}, nil
}

// handle has an admitted request answered, counts the use of its token and wraps
// the answer, if it is to be wrapped.
func (t *tx) handle(plan *plan) (reply, error) {
	answer, err := plan.handle()
	if err != nil {
		return t.refused(err)
	}
	if answer.again { // the last run is the one that counts
		return answer, nil
	}
	if t.who != nil && t.who.token.UsesLeft > 0 {
		if err := t.use(t.who); err != nil {
			return reply{}, err
		}
	}
	if answer.wrap != nil && answer.refusal == nil {
		return t.wrap(answer)
	}
	return answer, nil
}

// admit routes, identifies and authorises. Who may not ask is told so before
// it is told whether anybody would have answered.
func (t *tx) admit(r *request) (*plan, error) {
	t.caller = r.caller
	plan, err := r.route(t)
	if err != nil {
		return nil, err
	}
	t.account.routed(plan)
	if plan.open {
		return plan, plan.missed
	}
	if t.who, err = t.identify(r.caller); err != nil {
		return nil, err
	}
	t.account.identified(t.who)
	if err := t.authorise(r, plan); err != nil {
		return nil, err
	}
	return plan, plan.missed
}

// authorise has the caller's policies decide.
func (t *tx) authorise(r *request, plan *plan) error {
	if plan.creates != nil && plan.missed == nil {
		creates, err := plan.creates()
		if err != nil {
			return err
		}
		if creates {
			plan.access.Capability = policy.CapabilityCreate
		}
	}
	plan.access.Reason = r.caller.Reason
	d := t.decide(plan)
	t.account.decided(plan, d)
	if !d.Allowed {
		return denied(d)
	}
	return nil
}

// denied is what a caller learns of a decision: not which rule, nor that one exists.
func denied(d policy.Decision) *Error {
	e := refuse(conclavev1.Reason_REASON_DENIED, "permission denied", "")
	if d.Why == policy.ReasonRequired || d.Why == policy.ReasonPattern {
		e.Hint = "say why: this path asks for a reason with each access (--reason)"
	}
	return e
}

// attempt is one run of a write on one view.
type attempt struct {
	index   uint64 // of the view
	reply   reply
	replay  bool // reply is the kept answer of an earlier run, at commit
	commit  engine.Commit
	batch   *fsm.Batch
	first   []func(context.Context) error // see tx
	receipt *receipt
}

// write runs the request on newer and newer views, at or after atLeast, until its
// batch commits or a refusal is confirmed. The first view is whatever this node
// has: what is stale in it the guards find out.
func (p *Pipeline) write(ctx context.Context, keys *keys, r *request, account *account, atLeast uint64) (any, error) {
	if err := p.writable(); err != nil {
		return nil, err
	}
	turn, err := p.lanes.enter(ctx, r.lane)
	if err != nil {
		return nil, err
	}
	defer turn.leave()
	refused := false
	for range maxAttempts {
		a, err := p.attempt(ctx, keys, r, account, atLeast)
		if err != nil {
			// atLeast was confirmed while this request was under way, so a view
			// that reflects it has all that was acknowledged before. To confirm
			// once more would never end while others write.
			if !restsOnView(err) || atLeast > 0 {
				return nil, err
			}
			// The refusal rests on a view that may be old; it counts once the
			// view is known to be current. To find out takes the cluster a while, in
			// which who may not write must not keep those waiting who may.
			turn.leave()
			index, current, cerr := p.current(ctx, a.index)
			if cerr != nil {
				return nil, cerr
			}
			if current {
				return nil, err
			}
			if err := turn.again(ctx); err != nil {
				return nil, err
			}
			atLeast = index
			continue
		}
		if a.replay {
			return a.reply.answer(a.commit)
		}
		if len(a.batch.Operations) == 0 {
			// It turned out to be a read, and no guard will find out what is stale.
			index, current, err := p.current(ctx, a.index)
			if err != nil {
				return nil, err
			}
			if current || atLeast > 0 {
				return a.reply.answer(a.commit)
			}
			atLeast = index
			continue
		}
		if err := account.request(ctx); err != nil {
			return nil, err
		}
		for _, act := range a.first {
			if err := act(ctx); err != nil {
				return nil, err
			}
		}
		result, err := p.ledger.Propose(ctx, a.batch)
		if err != nil {
			return nil, err
		}
		switch result.Code {
		case fsm.Applied:
			if a.reply.again {
				atLeast = result.Index
				continue
			}
			if a.reply.intent != nil {
				turn.leave() // what happens outside keeps nobody waiting
				if err := p.realise(ctx, a.reply.intent); err != nil {
					return nil, err
				}
			}
			return a.reply.answer(engine.Commit{Index: result.Index, Time: result.Time.Time()})
		case fsm.Conflict:
			if a.receipt != nil && result.Guard == a.receipt.guard {
				p.receipts.drop(a.receipt.lease)
			}
			atLeast = result.Index
		case fsm.Refused:
			// The view was too old to show what the machine minds. On one that shows it,
			// the route says so in its own words, or has nothing left to do.
			if refused {
				return nil, refusedBatch(result.Reason)
			}
			refused, atLeast = true, result.Index
		default:
			return nil, errUnknown()
		}
	}
	return nil, refuse(conclavev1.Reason_REASON_CONFLICT, "others kept changing what this request depends on", "try again")
}

// restsOnView tells whether an error is a refusal that another view could lift.
func restsOnView(err error) bool {
	var (
		own     *Error
		missing *engine.NotFoundError
		gone    *engine.GoneError
		cas     *engine.CheckAndSetError
		invalid *engine.InvalidError
	)
	return errors.As(err, &own) || errors.As(err, &missing) || errors.As(err, &gone) || errors.As(err, &cas) || errors.As(err, &invalid)
}

// current tells whether a view at index reflects everything acknowledged by
// now, and which index does.
func (p *Pipeline) current(ctx context.Context, index uint64) (uint64, bool, error) {
	confirmed, err := p.views.confirm(ctx)
	return confirmed, index >= confirmed, err
}

// attempt evaluates a write on a view at or after atLeast, 0 for the first time.
//
// The first time it does not look whether the request was carried out before:
// almost none was, and the guard on the receipt finds those that were. Then, and
// when the method refuses, which may be because its work is done, it looks.
func (p *Pipeline) attempt(ctx context.Context, keys *keys, r *request, account *account, atLeast uint64) (a attempt, err error) {
	var receiptLease fsm.Key
	if r.key != "" {
		if receiptLease, err = p.receipts.current(ctx); err != nil {
			return a, err
		}
	}
	view, err := p.views.at(ctx, atLeast)
	if err != nil {
		return a, err
	}
	defer closeView(view, &err)
	t := newTx(view, keys, p.rand, true)
	t.account = account
	if err := t.followRotation(); err != nil {
		return a, err
	}
	a.index, a.batch = view.Index(), &t.batch
	a.commit = engine.Commit{Index: view.Index(), Time: t.Now()}
	if r.key == "" {
		a.reply, err = t.run(r)
	} else {
		err = a.runOnce(t, r, receiptLease, atLeast > 0)
	}
	a.first = t.first
	return a, err
}

// runOnce is run for a request with an idempotency key. The receipt belongs to
// the caller's token.
func (a *attempt) runOnce(t *tx, r *request, receiptLease fsm.Key, look bool) error {
	plan, err := t.admit(r)
	if err != nil {
		a.reply, err = t.refused(err)
		return err
	}
	if t.who != nil {
		if a.receipt, err = newReceipt(t.barrier, t.who, r.name, r.key, r.message, receiptLease); err != nil {
			return err
		}
		if look {
			if err := a.answeredBefore(t, r); err != nil || a.replay {
				return err
			}
		}
	}
	a.reply, err = t.handle(plan)
	if err != nil {
		if a.receipt != nil && restsOnView(err) {
			if err := a.answeredBefore(t, r); err != nil || a.replay {
				return err
			}
		}
		return err
	}
	if a.receipt != nil {
		if message, ok := a.reply.value.(proto.Message); ok {
			return a.receipt.keep(t, message)
		}
	}
	return nil
}

// answeredBefore makes the attempt a replay if the request has a receipt.
func (a *attempt) answeredBefore(t *tx, r *request) error {
	kept, commit, err := a.receipt.find(t)
	if err != nil || kept == nil {
		return err
	}
	value := r.empty()
	a.replay, a.commit = true, commit
	a.reply = reply{value: value, finish: func(done engine.Commit) { r.finish(value, done) }}
	return proto.Unmarshal(kept.Response, value)
}

func closeView(v *fsm.View, err *error) {
	if cerr := v.Close(); *err == nil {
		*err = cerr
	}
}
