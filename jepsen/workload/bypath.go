package workload

import (
	"errors"
	"fmt"
	"time"

	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/model"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// A Request is one by its path in Vault's API below /v1/.
type Request struct {
	Token redact.Bytes // who asks; none: the root
	Path  string
	Body  map[string]any // of a write; nil: it reads
	Wrap  time.Duration  // above zero: have the answer wrapped
}

// A Reply is the answer to a Request that was carried out.
type Reply struct {
	Index uint64
	Token redact.Bytes // a new one, or that of a wrapped answer
	Text  string       // what is under "text" in the data
}

// accessLife is longer than any run: what ends here was ended.
const accessLife = 700 * time.Hour

const createToken = "auth/token/create"

func policyPath(name string) string { return "sys/policies/acl/" + name }

// pathOf is where o asks.
func pathOf(o *history.Op) string {
	switch o.Kind {
	case model.MakeLimited:
		return createToken
	case model.MakeWrapped:
		return "sys/wrapping/wrap"
	case model.UseToken, model.UseLimited:
		return "auth/token/lookup-self"
	case model.RevokeToken:
		return "auth/token/revoke"
	case model.SetPolicy:
		return policyPath(o.Key)
	case model.UsePolicy:
		// Each client has a secret of its own, so that nothing but the policy is contended for.
		return fmt.Sprintf("secret/data/gated/%d", o.Client)
	}
	return "sys/wrapping/unwrap"
}

// Answered are the paths of the requests of o, around access, that must have been
// answered with success for o to be done.
func Answered(o *history.Op) []string {
	switch {
	case o.Kind == model.MakeToken:
		return []string{createToken, createToken}
	case o.Kind == model.MakeGate:
		return []string{policyPath(o.Key), createToken}
	case o.Kind == model.UsePolicy && o.Value != writing:
		return nil // who is told that there is nothing has been let in
	}
	return []string{pathOf(o)}
}

// ByPath carries out o, which is around access, with requests that serve sends, and
// puts what comes back into a. What serve returns, a *Failure as a rule, it returns.
func (w *World) ByPath(o *history.Op, a *Answer, serve func(Request) (*Reply, error)) error {
	switch o.Kind {
	case model.MakeToken:
		return w.makeFamily(o, a, serve)
	case model.MakeGate:
		return w.makeGate(o, a, serve)
	}
	with := w.credential(o.Key)
	reply, err := serve(w.request(o, with))
	reads := o.Kind == model.UseToken || o.Kind == model.UsePolicy && o.Value != writing
	if o.Kind == model.UsePolicy && reads && nothingThere(err) {
		return nil // let in
	}
	if err != nil {
		return err
	}
	switch o.Kind {
	case model.MakeLimited:
		w.keep(o.Kind, one(o.Key, reply.Token))
	case model.MakeWrapped:
		made := one(o.Key, reply.Token)
		made.body = w.wrapped(o)
		w.keep(o.Kind, made)
	case model.Unwrap:
		if reply.Text != with.body {
			w.watch.Report("something else was wrapped: %v: %q; want %q", o, reply.Text, with.body)
		}
	}
	// Those that may have written nothing name an index that is not theirs alone.
	if !reads && o.Kind != model.RevokeToken {
		a.Index = reply.Index
	}
	return nil
}

// request is o as one request.
func (w *World) request(o *history.Op, with *credential) Request {
	q := Request{Path: pathOf(o)}
	switch o.Kind {
	case model.MakeLimited:
		q.Body = map[string]any{"num_uses": model.LimitedUses, "ttl": accessLife.String()}
	case model.MakeWrapped:
		q.Body, q.Wrap = map[string]any{"text": w.wrapped(o)}, accessLife
	case model.UseToken:
		q.Token = with.tokens[o.Value]
	case model.UseLimited:
		q.Token = with.tokens[""]
	case model.RevokeToken:
		q.Body = map[string]any{"token": string(with.tokens[o.Value].Expose())}
	case model.SetPolicy:
		q.Body = policyBody(o.Value)
	case model.UsePolicy:
		q.Token = with.tokens[""]
		if o.Value == writing {
			q.Body = map[string]any{"data": map[string]any{"text": fmt.Sprintf("%s%d at %v", w.options.Canary, o.Client, o.Called)}}
		}
	case model.Unwrap:
		q.Body = map[string]any{"token": string(with.tokens[""].Expose())}
	}
	return q
}

func (w *World) wrapped(o *history.Op) string { return w.options.Canary + "from " + o.Key }

func policyBody(what string) map[string]any {
	capabilities := `"create", "update", "read"`
	if what == model.Deny {
		capabilities = `"deny"`
	}
	return map[string]any{"policy": fmt.Sprintf("path \"secret/data/gated/*\" { capabilities = [%s] }", capabilities)}
}

func nothingThere(err error) bool {
	var f *Failure
	return errors.As(err, &f) && f.Reason == conclavev1.Reason_REASON_NOT_FOUND
}

// makeFamily makes a token and one of its own.
func (w *World) makeFamily(o *history.Op, a *Answer, serve func(Request) (*Reply, error)) error {
	life := accessLife.String()
	parent, err := serve(Request{Path: createToken, Body: map[string]any{"ttl": life, "policies": []string{"root"}}})
	if err != nil {
		return err
	}
	child, err := serve(Request{Token: parent.Token, Path: createToken, Body: map[string]any{"ttl": life}})
	if err != nil {
		return err
	}
	a.Index = child.Index
	w.keep(o.Kind, &credential{key: o.Key, tokens: map[string]redact.Bytes{model.Parent: parent.Token, model.Child: child.Token}})
	return nil
}

// makeGate makes a policy that allows and the token that it rules.
func (w *World) makeGate(o *history.Op, a *Answer, serve func(Request) (*Reply, error)) error {
	if _, err := serve(Request{Path: policyPath(o.Key), Body: policyBody(model.Allow)}); err != nil {
		return err
	}
	made, err := serve(Request{Path: createToken,
		Body: map[string]any{"policies": []string{o.Key}, "no_default_policy": true, "ttl": accessLife.String()}})
	if err != nil {
		return err
	}
	a.Index = made.Index
	w.keep(o.Kind, one(o.Key, made.Token))
	return nil
}
