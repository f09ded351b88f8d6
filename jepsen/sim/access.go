package sim

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/internal/testcluster"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/workload"
)

// serve sends a request of o by its path, through whatever was planted before the node.
func (c *courier) serve(ctx context.Context, p *testcluster.Process, o *history.Op, q workload.Request) (*workload.Reply, error) {
	request := core.Request{Verb: engine.VerbRead, Path: q.Path, WrapTTL: q.Wrap}
	if q.Body != nil {
		raw, err := json.Marshal(q.Body)
		if err == nil {
			err = json.Unmarshal(raw, &request.Input.Body)
		}
		if err != nil {
			return nil, fmt.Errorf("encoding a request: %w", err)
		}
		request.Verb, request.Raw = engine.VerbWrite, raw
	}
	root := c.run.sim.Root()
	ask := func(who core.Caller) (*core.Reply, error) { return c.recorded(ctx, p, o, who, request) }
	who := root
	if q.Token.Len() > 0 {
		who = core.Caller{Token: q.Token}
	}
	front := c.run.options.front
	if front == nil {
		front = func(_ *testcluster.Process, _ *history.Op, who, _ core.Caller, ask func(core.Caller) (*core.Reply, error)) (*core.Reply, error) {
			return ask(who)
		}
	}
	reply, err := front(p, o, who, root, ask)
	if err != nil {
		return nil, err
	}
	return spell(reply)
}

// recorded has p serve a request and holds the audit log to the answer.
func (c *courier) recorded(ctx context.Context, p *testcluster.Process, o *history.Op, who core.Caller, q core.Request) (*core.Reply, error) {
	reply, err := p.Pipeline.Serve(ctx, who, q)
	if err == nil && !p.Trail.Answered(reply.RequestID) {
		c.run.report("answered before it was in the audit log: client %d, %s", o.Client, q.Path)
	}
	return reply, err
}

// spell puts a reply of core into the workload's words.
func spell(r *core.Reply) (*workload.Reply, error) {
	out := &workload.Reply{Index: r.Index}
	switch {
	case r.Auth != nil:
		out.Token = redact.New(r.Auth.Text)
	case r.Wrap != nil:
		out.Token = r.Wrap.Token
	}
	raw, err := json.Marshal(r.Data)
	var data struct {
		Text string `json:"text"`
	}
	if err == nil {
		err = json.Unmarshal(raw, &data)
	}
	if err != nil {
		return nil, fmt.Errorf("reading an answer: %w", err)
	}
	out.Text = data.Text
	return out, nil
}
