package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// policies is how many policies the clients change, each with a token of its own.
const policies = 2

// accessLife is longer than any run: what ends here was ended.
const accessLife = "700h"

func policyName(i int) string { return fmt.Sprintf("gate-%d", i) }

// credential is something that lets in, by its name in the history.
type credential struct {
	key  string
	text map[string]redact.Bytes // by member; "" where there is one only
	body string                  // of a wrapped answer
}

// purse is what the clients have in common to get in with, by the kind that made it.
type purse map[history.Kind][]credential

func (r *run) keep(kind history.Kind, c credential) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.purse[kind] = append(r.purse[kind], c)
}

// recent returns one of the last few credentials of a kind.
func (c *client) recent(kind history.Kind) (credential, bool) {
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	all := c.run.purse[kind]
	if len(all) == 0 {
		return credential{}, false
	}
	all = all[max(0, len(all)-3):]
	return all[c.rng.IntN(len(all))], true
}

func (r *run) credential(kind history.Kind, key string) credential {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.purse[kind] {
		if c.key == key {
			return c
		}
	}
	return credential{}
}

// maker says which kind makes what a kind uses.
var maker = map[history.Kind]history.Kind{
	model.UseToken: model.MakeToken, model.RevokeToken: model.MakeToken, model.UseLimited: model.MakeLimited,
	model.Unwrap: model.MakeWrapped, model.UsePolicy: model.SetPolicy,
}

func (c *client) pickTokens() *history.Op {
	kind, made := model.UseToken, model.MakeToken
	if c.rng.IntN(2) == 0 {
		kind, made = model.UseLimited, model.MakeLimited
	}
	found, ok := c.recent(made)
	if !ok || c.rng.Float64() < 0.15 {
		return &history.Op{Kind: made, Key: fmt.Sprintf("%s/c%d-%d", made, c.id, c.serial)}
	}
	o := &history.Op{Kind: kind, Key: found.key}
	if kind == model.UseToken {
		o.Value = []string{model.Parent, model.Child, model.Child}[c.rng.IntN(3)]
		if c.rng.Float64() < 0.12 {
			o.Kind = model.RevokeToken
		}
	}
	return o
}

func (c *client) pickWrapping() *history.Op {
	found, ok := c.recent(model.MakeWrapped)
	if !ok || c.rng.Float64() < 0.35 {
		return &history.Op{Kind: model.MakeWrapped, Key: fmt.Sprintf("wrapped/c%d-%d", c.id, c.serial)}
	}
	return &history.Op{Kind: model.Unwrap, Key: found.key}
}

// writing is the value of a request under a policy that writes.
const writing = "write"

func (c *client) pickPolicies() *history.Op {
	o := &history.Op{Kind: model.UsePolicy, Key: policyName(c.rng.IntN(policies))}
	if c.rng.Float64() < 0.25 {
		o.Kind = model.SetPolicy
		o.Value = []string{model.Allow, model.Deny}[c.rng.IntN(2)]
	} else if c.rng.IntN(2) == 0 {
		o.Value = writing
	}
	return o
}

// openGates makes the policies and the tokens that they rule, before anything goes wrong.
func (r *run) openGates() error {
	c := newClient(r, -1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p := r.sim.Replicas[0].Process()
	for i := range policies {
		name := policyName(i)
		if _, err := c.serve(ctx, p, r.sim.Root(), "sys/policies/acl/"+name, policyBody(model.Allow), 0); err != nil {
			return fmt.Errorf("making policy %s: %w", name, err)
		}
		reply, err := c.serve(ctx, p, r.sim.Root(), "auth/token/create",
			map[string]any{"policies": []string{name}, "no_default_policy": true, "ttl": accessLife}, 0)
		if err != nil {
			return fmt.Errorf("making the token of policy %s: %w", name, err)
		}
		r.keep(model.SetPolicy, credential{key: name, text: map[string]redact.Bytes{"": redact.New(reply.Auth.Text)}})
	}
	return nil
}

func policyBody(what string) map[string]any {
	capabilities := `"create", "update", "read"`
	if what == model.Deny {
		capabilities = `"deny"`
	}
	return map[string]any{"policy": fmt.Sprintf("path \"secret/data/gated/*\" { capabilities = [%s] }", capabilities)}
}

// serve sends a request by its path and holds the audit log to the answer.
func (c *client) serve(ctx context.Context, p *testcluster.Process, who core.Caller, path string, body map[string]any, wrap time.Duration) (*core.Reply, error) {
	q := core.Request{Verb: engine.VerbRead, Path: path, WrapTTL: wrap}
	if body != nil {
		raw, err := json.Marshal(body)
		if err == nil {
			err = json.Unmarshal(raw, &q.Input.Body)
		}
		if err != nil {
			return nil, fmt.Errorf("encoding a request: %w", err)
		}
		q.Verb, q.Raw = engine.VerbWrite, raw
	}
	reply, err := p.Pipeline.Serve(ctx, who, q)
	if err != nil {
		return nil, err
	}
	if !p.Trail.Answered(reply.RequestID) {
		c.run.report("answered before it was in the audit log: client %d, %s", c.id, path)
	}
	return reply, nil
}

// callAccess sends o to p and puts what comes back into a.
func (c *client) callAccess(ctx context.Context, p *testcluster.Process, o *history.Op, a *answer) error {
	r := c.run
	with := r.credential(maker[o.Kind], o.Key)
	root := r.sim.Root()
	var reply *core.Reply
	var err error
	switch o.Kind {
	case model.MakeToken:
		return c.makeFamily(ctx, p, o, a)
	case model.MakeLimited:
		reply, err = c.serve(ctx, p, root, "auth/token/create", map[string]any{"num_uses": model.LimitedUses, "ttl": accessLife}, 0)
		if err == nil {
			r.keep(o.Kind, credential{key: o.Key, text: map[string]redact.Bytes{"": redact.New(reply.Auth.Text)}})
		}
	case model.MakeWrapped:
		body := fmt.Sprintf("%sfrom %s", canary, o.Key)
		reply, err = c.serve(ctx, p, root, "sys/wrapping/wrap", map[string]any{"text": body}, 700*time.Hour)
		if err == nil {
			r.keep(o.Kind, credential{key: o.Key, text: map[string]redact.Bytes{"": reply.Wrap.Token}, body: body})
		}
	case model.UseToken, model.UseLimited:
		reply, err = c.asCaller(p, o, with, func(who core.Caller) (*core.Reply, error) {
			return c.serve(ctx, p, who, "auth/token/lookup-self", nil, 0)
		})
	case model.RevokeToken:
		reply, err = c.serve(ctx, p, root, "auth/token/revoke", map[string]any{"token": string(with.text[o.Value].Expose())}, 0)
	case model.SetPolicy:
		reply, err = c.serve(ctx, p, root, "sys/policies/acl/"+o.Key, policyBody(o.Value), 0)
	case model.UsePolicy:
		reply, err = c.asCaller(p, o, with, func(who core.Caller) (*core.Reply, error) {
			var body map[string]any
			if o.Value == writing {
				body = map[string]any{"data": map[string]any{"text": fmt.Sprintf("%s%d request %d", canary, c.id, c.serial)}}
			}
			// Each client has a secret of its own, so that nothing but the policy is contended for.
			return c.serve(ctx, p, who, fmt.Sprintf("secret/data/gated/%d", c.id), body, 0)
		})
		var e *core.Error
		if errors.As(err, &e) && e.Reason == conclavev1.Reason_REASON_NOT_FOUND {
			return nil // there is nothing behind the gate; who is told so has been let in
		}
	case model.Unwrap:
		reply, err = c.serve(ctx, p, root, "sys/wrapping/unwrap", map[string]any{"token": string(with.text[""].Expose())}, 0)
		if err == nil {
			c.checkWrapped(o, reply, with.body)
		}
	}
	// Those that may have written nothing name an index that is not theirs alone.
	reads := o.Kind == model.UseToken || o.Kind == model.UsePolicy && o.Value != writing
	if err == nil && !reads && o.Kind != model.RevokeToken {
		a.index = reply.Index
	}
	return err
}

func (c *client) checkWrapped(o *history.Op, reply *core.Reply, want string) {
	raw, err := json.Marshal(reply.Data)
	var got struct {
		Text string `json:"text"`
	}
	if err == nil {
		err = json.Unmarshal(raw, &got)
	}
	if err != nil || got.Text != want {
		c.run.report("something else was wrapped: %v: %q, %v; want %q", o, got.Text, err, want)
	}
}

// asCaller asks with a credential, through whatever was planted before the node.
func (c *client) asCaller(p *testcluster.Process, o *history.Op, with credential, ask func(core.Caller) (*core.Reply, error)) (*core.Reply, error) {
	member := o.Value
	if o.Kind == model.UsePolicy {
		member = ""
	}
	who := core.Caller{Token: with.text[member]}
	if front := c.run.options.front; front != nil {
		return front(p, o, who, c.run.sim.Root(), ask)
	}
	return ask(who)
}

// makeFamily makes a token and one of its own.
func (c *client) makeFamily(ctx context.Context, p *testcluster.Process, o *history.Op, a *answer) error {
	parent, err := c.serve(ctx, p, c.run.sim.Root(), "auth/token/create", map[string]any{"ttl": accessLife, "policies": []string{"root"}}, 0)
	if err != nil {
		return err
	}
	text := map[string]redact.Bytes{model.Parent: redact.New(parent.Auth.Text)}
	child, err := c.serve(ctx, p, core.Caller{Token: text[model.Parent]}, "auth/token/create", map[string]any{"ttl": accessLife}, 0)
	if err != nil {
		return err
	}
	text[model.Child] = redact.New(child.Auth.Text)
	a.index = child.Index
	c.run.keep(o.Kind, credential{key: o.Key, text: text})
	return nil
}
