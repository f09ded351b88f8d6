package core

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/conclave-secrets/conclave/audit"
	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/fsm"
	"github.com/conclave-secrets/conclave/policy"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
	"github.com/conclave-secrets/conclave/seal"
)

// Recorder makes a record durable before a request takes effect, or before its
// answer leaves. audit.Log is one.
type Recorder interface {
	Append(ctx context.Context, e *audit.Entry) error
	Close() error
}

// AuditHasher is what an audit log shows in place of a value: a hash under a key that
// is made from the audit key of an open barrier, and so the same on every node. It
// goes on after the barrier was wiped, for the records of requests under way.
//
// A key of its own, and not the barrier's hash of each value, because that sets up an
// HMAC each time, and a request has several values.
func AuditHasher(b *seal.Barrier) (audit.Hasher, error) {
	key, err := b.AuditHash("values in the audit log", nil)
	if err != nil {
		return nil, fmt.Errorf("making the audit log's key: %w", err)
	}
	return audit.NewHasher(key), nil
}

// account is what the audit log is told of one request. A read has one record,
// before its answer: it has no effect before. A write has one before it takes
// effect and one before its answer.
type account struct {
	recorder  Recorder  // nil: nobody keeps a log
	gathering gathering // nil: the recorder does not care who is under way
	under     bool      // this request was said to be
	entry     audit.Entry
	requested bool
}

// gathering is a Recorder that writes the records of requests that are under way at
// the same time together. audit.Log is one.
type gathering interface {
	Enter()
	Leave()
}

// enter says that a record will come soon.
func (a *account) enter() {
	if a.gathering != nil && !a.under {
		a.under = true
		a.gathering.Enter()
	}
}

// leave says that none will, for now.
func (a *account) leave() {
	if a.under {
		a.under = false
		a.gathering.Leave()
	}
}

// newAccount begins the account of a request; answer ends it.
func newAccount(recorder Recorder, r *request) *account {
	a := &account{recorder: recorder}
	if recorder == nil {
		return a
	}
	a.gathering, _ = recorder.(gathering)
	a.enter()
	a.entry.Operation, a.entry.Reason, a.entry.RequestID = r.name, r.caller.Reason, r.id
	if r.caller.Address.IsValid() {
		a.entry.Remote = r.caller.Address.String()
	}
	a.entry.Consistency = consistencyName(r.read)
	a.entry.Request.JSON, a.entry.Request.Message, a.entry.Request.Omit = r.body, r.message, requestOptions
	return a
}

// The fields of typed messages that a record has no use for, or has elsewhere.
var (
	requestOptions = []string{"path", "read", "write"}
	responseIndex  = []string{"index"}
)

func consistencyName(o *conclavev1.ReadOptions) string {
	switch o.GetConsistency() {
	case conclavev1.Consistency_CONSISTENCY_LOCAL:
		return "local"
	case conclavev1.Consistency_CONSISTENCY_BOUNDED:
		return "bounded"
	case conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX:
		return "at-least-index"
	}
	return ""
}

// routed notes what a request is about.
func (a *account) routed(p *plan) {
	e := &a.entry
	e.Path, e.Operation = p.access.Path, p.access.Capability.String()
	if p.mount != nil {
		a.mounted(p.mount)
	}
}

// mounted notes the mount that answers, and which fields it exempts.
func (a *account) mounted(m *mount) {
	e := &a.entry
	e.Mount, e.MountType = m.Path, m.Type
	e.Request.Clear, e.Response.Clear = m.row.AuditClearRequestKeys, m.row.AuditClearResponseKeys
}

// identified notes who asks.
func (a *account) identified(who *identity) {
	a.entry.Auth = audit.Auth{Accessor: who.token.Accessor, DisplayName: who.token.Name, Policies: who.token.Policies, TokenType: who.token.Type(), Entity: who.token.EntityID}
}

// decided notes which rule decided.
func (a *account) decided(p *plan, d policy.Decision) {
	a.entry.Operation = p.access.Capability.String()
	a.entry.Rule = audit.Rule{Policy: d.Policy, Pattern: d.Pattern, None: d.Why == policy.NoRule}
}

// request makes the record that stands before an effect, once.
func (a *account) request(ctx context.Context) error {
	if a.recorder == nil || a.requested {
		return nil
	}
	a.requested = true
	a.entry.Type = audit.TypeRequest
	err := a.append(ctx)
	a.leave() // the commit comes next, which takes longer
	return err
}

// answer makes the record that stands before the answer. On an error of the log
// the answer must not leave. The record is made even if the caller has gone; the
// log's own deadlines bound that.
func (a *account) answer(ctx context.Context, value any, refusal *Error) error {
	if a.recorder == nil {
		return nil
	}
	a.enter()
	defer a.leave()
	e := &a.entry
	e.Type = audit.TypeAccess
	if a.requested {
		e.Type = audit.TypeResponse
	}
	e.Outcome = audit.OutcomeOK
	if refusal != nil && refusal.Reason == conclavev1.Reason_REASON_UNAUTHENTICATED {
		e.Request = audit.Data{} // nobody who is known sent it, and anybody could fill the disk
	}
	if refusal != nil {
		e.Outcome, e.Error = outcomeOf(refusal), audit.Failure{Class: className(refusal.Reason), Text: refusal.Message}
		var credential *auth.CredentialError
		if errors.As(refusal, &credential) {
			e.Outcome, e.Error.Text = audit.OutcomeDenied, credential.Why // the log may know more than the caller
		}
	} else {
		switch r := value.(type) {
		case *Reply:
			if err := a.replied(r); err != nil {
				return err
			}
		case proto.Message:
			e.Response.Message, e.Response.Omit = r, responseIndex
			if r, ok := r.(interface{ GetIndex() uint64 }); ok {
				e.Index = r.GetIndex()
			}
		}
	}
	return a.append(context.WithoutCancel(ctx))
}

// replied notes what a request was answered with. The data is encoded here, once,
// for the log and for the transport.
func (a *account) replied(r *Reply) error {
	e := &a.entry
	e.Index = r.Index
	if r.Data != nil {
		raw, ok := r.Data.(json.RawMessage)
		if !ok {
			var err error
			if raw, err = engine.MarshalJSON(r.Data); err != nil {
				return fmt.Errorf("encoding an answer: %w", err)
			}
			r.Data = raw
		}
		e.Response.JSON = raw
	}
	if r.Auth != nil {
		e.Response.Fields = []audit.Field{{Name: "client_token", Value: r.Auth.Text}, {Name: "accessor", Value: []byte(r.Auth.Token.Accessor)}}
	}
	if w := r.Wrap; w != nil {
		e.Wrap = audit.Wrap{TTL: w.TTL, Accessor: w.Accessor, CreationPath: w.CreationPath}
	}
	return nil
}

func (a *account) append(ctx context.Context) error {
	if err := a.recorder.Append(ctx, &a.entry); err != nil {
		if a.entry.Type == audit.TypeRequest && ctx.Err() != nil {
			return fmt.Errorf("recording a request: %w: %w", fsm.ErrNotDone, context.Cause(ctx))
		}
		if errors.Is(err, audit.ErrClosed) {
			return a.sealedMeanwhile()
		}
		e := refuse(conclavev1.Reason_REASON_INTERNAL, "the audit log cannot be written, so nothing is done or told", "see the node's log; other nodes may serve")
		if a.entry.Type == audit.TypeResponse {
			e.Outcome = conclavev1.Outcome_OUTCOME_UNKNOWN
		}
		e.cause = err
		return e
	}
	return nil
}

// sealedMeanwhile is the end of a request whose node was sealed, and its log with it,
// while it was under way. What may be done already has no record of its answer, so
// the caller cannot be told more than that it may be.
func (a *account) sealedMeanwhile() error {
	if a.entry.Type == audit.TypeResponse {
		return errUnknown()
	}
	return errSealed()
}

func outcomeOf(e *Error) audit.Outcome {
	switch {
	case e.Reason == conclavev1.Reason_REASON_DENIED || e.Reason == conclavev1.Reason_REASON_UNAUTHENTICATED:
		return audit.OutcomeDenied
	case e.Outcome == conclavev1.Outcome_OUTCOME_UNKNOWN:
		return audit.OutcomeUnknown
	}
	return audit.OutcomeFailed
}

// className spells a reason for programs: REASON_NOT_FOUND is "not-found".
func className(r conclavev1.Reason) string {
	name := []byte(r.String())
	if len(name) > len("REASON_") {
		name = name[len("REASON_"):]
	}
	for i, b := range name {
		switch {
		case b == '_':
			name[i] = '-'
		case b >= 'A' && b <= 'Z':
			name[i] = b + 'a' - 'A'
		}
	}
	return string(name)
}
