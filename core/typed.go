package core

import (
	"context"
	"encoding/json"
	"iter"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/policy"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// method is an engine.Method over core's own transaction, which can do more.
type method[Req, Resp proto.Message] struct {
	name       string
	capability policy.Capability
	writes     bool
	open       bool   // needs no token: the method checks a credential of its own
	sudo       bool   // needs the capability sudo beside its own
	mount      string // path of the mount that the transaction shows; "": none
	serves     func(engine.Mount) error
	path       func(Req) string
	lane       func(Req) string             // nil: the path; "" contends with nobody
	creates    func(*tx, Req) (bool, error) // nil: never
	handle     func(*tx, Req) (Resp, error)
	finish     func(Resp, engine.Commit)
}

// Call answers one request to an engine's typed method on the mount at a path.
func Call[Req, Resp proto.Message](ctx context.Context, p *Pipeline, c Caller, mount string, m engine.Method[Req, Resp], req Req) (Resp, error) {
	capability, _ := policy.ParseCapability(string(m.Capability))
	if m.CapabilityOf != nil {
		capability, _ = policy.ParseCapability(string(m.CapabilityOf(req)))
	}
	typed := method[Req, Resp]{
		name: m.Name, capability: capability, writes: m.Writes, mount: mount, serves: m.Serves,
		path:   func(r Req) string { return mount + m.Path(r) },
		handle: func(t *tx, r Req) (Resp, error) { return m.Handle(t, r) },
		finish: m.Finish,
	}
	if m.Creates != nil {
		typed.creates = func(t *tx, r Req) (bool, error) { return m.Creates(t, r) }
	}
	return call(ctx, p, c, typed, req)
}

func call[Req, Resp proto.Message](ctx context.Context, p *Pipeline, c Caller, m method[Req, Resp], req Req) (resp Resp, err error) {
	path := m.path(req)
	lane := path
	if m.lane != nil {
		lane = m.lane(req)
	}
	r := &request{
		caller: c, name: m.name, writes: m.writes, lane: lane, read: readOptions(req), message: req, key: idempotencyKey(req),
		empty:  func() proto.Message { return resp.ProtoReflect().New().Interface() },
		finish: func(value any, done engine.Commit) { m.finish(value.(Resp), done) },
		route: func(t *tx) (*plan, error) {
			out := &plan{open: m.open, access: policy.Request{Path: path, Capability: m.capability, Sudo: m.sudo, Parameters: fields(req)}}
			if m.mount != "" {
				table, err := t.mounts()
				if err != nil {
					return nil, err
				}
				mounted, rest := table.find(m.mount)
				if mounted == nil || rest != "" {
					out.missed = ErrNoMount
					return out, nil
				}
				if m.serves != nil {
					if out.missed = m.serves(mounted.Mount); out.missed != nil {
						return out, nil
					}
				}
				t.on(mounted.ID)
				out.mount = mounted
			}
			if m.creates != nil {
				out.creates = func() (bool, error) { return m.creates(t, req) }
			}
			out.handle = func() (reply, error) {
				resp, err := m.handle(t, req)
				return reply{value: resp, finish: func(done engine.Commit) { m.finish(resp, done) }}, err
			}
			return out, nil
		},
	}
	value, err := p.do(ctx, r)
	if err != nil {
		return resp, err
	}
	return value.(Resp), nil
}

// notParameters are fields of typed requests that rules know as the path, or that do
// not concern them.
var notParameters = []string{"path", "mount", "read", "write"}

// fields walks over what a typed request sends, for rules that constrain it: under
// the names of its fields, with the shapes of its JSON form. It is made only if such
// a rule is met.
func fields(req proto.Message) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		var sent map[string]any
		raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(req)
		if err == nil {
			err = json.Unmarshal(raw, &sent)
		}
		if err != nil { // nothing that came over the wire is so
			yield("", nil)
			return
		}
		for name, value := range sent {
			if !slices.Contains(notParameters, name) && !yield(name, value) {
				return
			}
		}
	}
}

func readOptions(req any) *conclavev1.ReadOptions {
	if r, ok := req.(interface {
		GetRead() *conclavev1.ReadOptions
	}); ok {
		return r.GetRead()
	}
	return nil
}

func idempotencyKey(req any) string {
	if r, ok := req.(interface {
		GetWrite() *conclavev1.WriteOptions
	}); ok {
		return r.GetWrite().GetIdempotencyKey()
	}
	return ""
}
