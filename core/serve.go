package core

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"iter"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/policy"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Request is a request by verb and path, as the Vault-shaped transport has it.
type Request struct {
	Verb  engine.Verb
	Path  string // mount and what is in it, without a leading slash
	Input engine.Input
	// Help asks what the path answers, in place of an answer.
	Help bool
	// WrapTTL above zero wraps the answer for that long.
	WrapTTL time.Duration
	Read    *conclavev1.ReadOptions
	// Raw is the body as it was sent, for the audit log, which shows hashes of its
	// values.
	Raw []byte
}

// Reply is the answer to a Request.
type Reply struct {
	engine.Answer
	RequestID string    // names the request in the audit log
	Auth      *Auth     // a login or a renewal; nil: none
	Wrap      *WrapInfo // the answer is wrapped: Data and Auth are nil
	MountType string
	Index     uint64 // reflects everything that the request saw or did
}

// Auth is a token as it is handed out.
type Auth struct {
	Token     *Token
	Text      []byte // nil when the caller has it already
	TTL       time.Duration
	Renewable bool
}

// ErrNoRoute: the path has a mount, and nothing in it answers.
var ErrNoRoute = errors.New("unsupported path")

// ErrNoVerb: the path answers, but not to this verb.
var ErrNoVerb = errors.New("unsupported operation")

// Serve answers a request by verb and path.
func (p *Pipeline) Serve(ctx context.Context, c Caller, q Request) (*Reply, error) {
	keys, err := p.gate.open()
	if err != nil {
		return nil, explain(err, false)
	}
	r := &request{
		body: q.Raw, caller: c, name: q.Verb.String() + " " + q.Path, lane: q.Path, read: q.Read,
		route: func(t *tx) (*plan, error) { return t.plan(ctx, c, q) },
	}
	if q.Help {
		r.name = "help " + q.Path
	} else if route := keys.directory.foresee(q); route != nil {
		r.writes = route.Writes
		if route.Parallel {
			r.lane = ""
		}
	}
	value, err := p.do(ctx, r)
	if err != nil {
		return nil, err
	}
	reply := value.(*Reply)
	reply.RequestID = r.id
	return reply, nil
}

// foresee tells which route a request will have if the mounts are those that this
// node compiled last; nil: none, or there are none yet. If that is wrong, the
// request finds out by itself: a read that stages something becomes a write.
func (d *directory) foresee(q Request) *engine.Route {
	table := d.mounts.Load()
	if table == nil {
		return nil
	}
	m, rest := table.find(q.Path)
	if m == nil || m.routes == nil {
		return nil
	}
	match, _ := m.routes.Find(q.Verb, rest)
	return match.Route
}

// plan routes a request by verb and path.
func (t *tx) plan(ctx context.Context, c Caller, q Request) (*plan, error) {
	if q.Help {
		return t.planHelp(ctx, c, q)
	}
	out := &plan{access: policy.Request{Path: q.Path, Capability: capabilityOf(q.Verb), Parameters: parameters(q.Input),
		Wrapped: q.WrapTTL > 0, WrapTTL: q.WrapTTL}}
	table, err := t.mounts()
	if err != nil {
		return nil, err
	}
	m, rest := table.find(q.Path)
	if m == nil || m.routes == nil {
		out.missed = ErrNoMount
		return out, nil
	}
	match, known := m.routes.Find(q.Verb, rest)
	switch {
	case !known:
		out.missed = ErrNoRoute
		return out, nil
	case match.Route == nil:
		out.missed = ErrNoVerb
		return out, nil
	}
	t.on(m.ID)
	out.mount, out.open, out.access.Sudo = m, match.Route.Open, match.Route.Sudo
	in, err := match.Bind(q.Input)
	if err != nil {
		out.missed = err
		return out, nil
	}
	call := &engine.Call{Tx: t, Context: ctx, Mount: m.Mount, Rand: t.rand, Path: q.Path, Wraps: q.WrapTTL > 0,
		Caller: engine.Caller{Address: c.Address}}
	if q.Verb == engine.VerbWrite {
		out.creates = func() (bool, error) {
			t.introduce(call)
			return match.Creates(call, in)
		}
	}
	out.handle = func() (reply, error) {
		t.introduce(call)
		return t.serve(call, m, match, in, q)
	}
	return out, nil
}

// parameters walks over what a request sends, for rules that constrain it.
func parameters(in engine.Input) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for name, raw := range in.Body {
			var value any
			if json.Unmarshal(raw, &value) != nil { // a transport passes on valid JSON only
				value = string(raw)
			}
			if !yield(name, value) {
				return
			}
		}
		for name, values := range in.Query {
			if _, twice := in.Body[name]; twice || len(values) == 0 {
				continue
			}
			if !yield(name, values[0]) {
				return
			}
		}
	}
}

// introduce tells an engine who asks.
func (t *tx) introduce(call *engine.Call) {
	if t.who != nil {
		call.Caller = engine.Caller{DisplayName: t.who.token.Name, EntityID: t.who.token.EntityID,
			TokenID: hex.EncodeToString(t.who.key[1:]), Address: call.Caller.Address}
	}
}

func capabilityOf(v engine.Verb) policy.Capability {
	switch v {
	case engine.VerbRead:
		return policy.CapabilityRead
	case engine.VerbList:
		return policy.CapabilityList
	case engine.VerbPatch:
		return policy.CapabilityPatch
	case engine.VerbDelete:
		return policy.CapabilityDelete
	}
	return policy.CapabilityUpdate
}

// serve runs the handler and makes what it asked for: a token.
func (t *tx) serve(call *engine.Call, m *mount, match engine.Match, in any, q Request) (reply, error) {
	answer, err := match.Serve(call, in)
	if err != nil {
		return reply{}, err
	}
	if answer.Refusal != nil {
		return reply{refusal: answer.Refusal}, nil
	}
	t.first = append(t.first, answer.Before...)
	if answer.Again {
		return reply{again: true}, nil
	}
	out := &Reply{Answer: answer, MountType: m.Type}
	if answer.Login != nil {
		made, err := t.login(m, q.Path, answer.Login)
		if err != nil {
			return reply{}, err
		}
		out.Auth = &Auth{Token: &made.Token, Text: made.Text.Expose(), TTL: made.TTL, Renewable: made.Renewable}
	}
	var intended *intent
	if answer.Intent != nil {
		var id string
		if intended, id, err = t.intend(m, q.Path, answer.Intent); err != nil {
			return reply{}, err
		}
		out.LeaseID, out.LeaseDuration, out.Renewable = id, intended.TTL, intended.Renewable
	}
	switch data := answer.Data.(type) {
	case *Auth: // of the token store
		out.Auth, out.Data = data, nil
	case *Reply: // unwrapped
		data.Warnings = append(data.Warnings, out.Warnings...)
		out = data
	}
	r := reply{value: out, intent: intended, finish: func(c engine.Commit) {
		out.Index = c.Index
		if data, ok := out.Data.(engine.Committer); ok {
			data.Committed(c)
		}
	}}
	if q.WrapTTL > 0 {
		r.wrap = &wrapping{ttl: q.WrapTTL, path: q.Path, reply: out}
	}
	return r, nil
}

// timestampOf is nil for the zero time.
func timestampOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func cloneMessage[M proto.Message](m M) M { return proto.Clone(m).(M) }
