package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Paths are requests by verb and path, in the paths of Vault's API below /v1/:
// tokens, policies, mounts, logins, wrapping, and whatever an engine serves.
//
// Such a write has no idempotency key. It is sent again only when it was not
// done; an outcome that is unknown is reported and not resolved. A read is
// repeated like any other: one that makes something, such as a wrapped answer, may
// make it twice, and what nobody saw ends by itself.
type Paths struct{ c *Client }

// PathOptions belong to each request by path. Zero asks for nothing special.
type PathOptions struct {
	// WrapTTL above zero has the answer wrapped: Answer.Wrap says how to open it,
	// once, within that time.
	WrapTTL time.Duration
	// Parameters of a request without a body, by name.
	Parameters map[string][]string
	// Consistency of Read and List.
	Consistency Consistency
}

// An Answer is what a request by path came to. It belongs to the caller.
type Answer struct {
	RequestID string // names the request in the audit log; empty when wrapped
	// LeaseID names the lease that the answer comes with; empty: none.
	LeaseID   string
	Renewable bool // the lease can be renewed
	// LeaseDuration says for how long the answer may be used, or how long the
	// lease lives.
	LeaseDuration time.Duration
	// Data is a JSON object; zero: there is nothing to say. It prints as redacted;
	// Decode and Reveal lead to it.
	Data     Value
	Warnings []string // for people
	// Missing: what was asked for is not there (any more), and Data says what is
	// known of it.
	Missing   bool
	Auth      *Auth     // a login, a new or a renewed token; nil: none
	Wrap      *WrapInfo // the answer is wrapped: Data and Auth are not set
	MountType string    // of the engine or auth method that answered
	Index     uint64    // of the state that this answer reflects
}

// Auth is a token as it is handed out.
type Auth struct {
	Token         Token // zero where the caller did not show it
	Accessor      string
	Policies      []string
	Metadata      map[string]string
	LeaseDuration time.Duration // from now; zero: it does not expire
	Renewable     bool
	EntityID      string
	Type          string // service or batch
	Orphan        bool
	NumUses       uint64 // zero: without limit
}

// WrapInfo says how to open a wrapped answer.
type WrapInfo struct {
	Token           Token
	Accessor        string
	TTL             time.Duration
	CreatedAt       time.Time
	CreationPath    string
	WrappedAccessor string // of the token in the answer, if it holds one
}

// errNoData is a mistake of the caller.
var errNoData = errors.New("decoding an answer: it has no data")

// Decode reads the data into v, a pointer, with json.Number for numbers of
// unknown type. No error of it shows a value.
func (a *Answer) Decode(v any) error {
	if a.Data.IsZero() {
		return errNoData
	}
	decoder := json.NewDecoder(bytes.NewReader(a.Data.bytes))
	decoder.UseNumber()
	if decoder.Decode(v) != nil {
		return fmt.Errorf("decoding an answer: its data does not fit into %T", v)
	}
	return nil
}

// Read reads what is at a path.
func (p Paths) Read(ctx context.Context, path string, o PathOptions) (*Answer, error) {
	return p.call(ctx, call{activity: activity("reading", path), effect: reads}, conclavev1.Verb_VERB_READ, path, nil, o)
}

// Help tells what a path answers: for people under "help", as OpenAPI under
// "openapi" of the answer's data.
func (p Paths) Help(ctx context.Context, path string) (*Answer, error) {
	return p.send(ctx, call{activity: activity("asking for help with", path), effect: reads},
		&conclavev1.CallPathRequest{Verb: conclavev1.Verb_VERB_READ, Path: path, Help: true, Read: p.c.readOptions(Consistency{})})
}

// List reads the names below a path: {"keys": […]} in the answer's data.
func (p Paths) List(ctx context.Context, path string, o PathOptions) (*Answer, error) {
	return p.call(ctx, call{activity: activity("listing in", path), effect: reads}, conclavev1.Verb_VERB_LIST, path, nil, o)
}

// Write creates or updates what is at a path, or has it do something. Body
// encodes to a JSON object; nil is none.
func (p Paths) Write(ctx context.Context, path string, body any, o PathOptions) (*Answer, error) {
	return p.call(ctx, call{activity: activity("writing", path), effect: bareWrite}, conclavev1.Verb_VERB_WRITE, path, body, o)
}

// Patch changes a part of what is at a path: body is a JSON merge patch.
func (p Paths) Patch(ctx context.Context, path string, body any, o PathOptions) (*Answer, error) {
	return p.call(ctx, call{activity: activity("patching", path), effect: bareWrite}, conclavev1.Verb_VERB_PATCH, path, body, o)
}

// Delete removes what is at a path.
func (p Paths) Delete(ctx context.Context, path string, o PathOptions) (*Answer, error) {
	return p.call(ctx, call{activity: activity("deleting", path), effect: bareWrite}, conclavev1.Verb_VERB_DELETE, path, nil, o)
}

func (p Paths) call(ctx context.Context, k call, verb conclavev1.Verb, path string, body any, o PathOptions) (*Answer, error) {
	raw, err := encodeBody(body)
	if err != nil {
		return nil, &Error{Activity: k.activity, Reason: ReasonInvalid, Outcome: OutcomeNotDone, Message: err.Error()}
	}
	request := &conclavev1.CallPathRequest{Verb: verb, Path: path, Body: raw, Read: p.c.readOptions(o.Consistency)}
	if o.WrapTTL != 0 {
		request.WrapTtl = durationpb.New(o.WrapTTL)
	}
	for name, values := range o.Parameters {
		if request.Parameters == nil {
			request.Parameters = map[string]*conclavev1.PathParameter{}
		}
		request.Parameters[name] = &conclavev1.PathParameter{Values: values}
	}
	return p.send(ctx, k, request)
}

func (p Paths) send(ctx context.Context, k call, request *conclavev1.CallPathRequest) (*Answer, error) {
	got, err := invoke(ctx, p.c, k, request, func(ctx context.Context, conn grpc.ClientConnInterface, r *conclavev1.CallPathRequest) (*conclavev1.CallPathResponse, error) {
		return conclavev1.NewPathsClient(conn).Call(ctx, r)
	})
	if err != nil {
		return nil, err
	}
	return answerFromProto(got), nil
}

// encodeBody encodes a body. No error of it shows a value, as one of json may.
func encodeBody(body any) ([]byte, error) {
	if body == nil {
		return nil, nil
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(body) != nil {
		return nil, fmt.Errorf("the body, a %T, cannot be encoded as JSON", body)
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

func answerFromProto(r *conclavev1.CallPathResponse) *Answer {
	a := &Answer{
		RequestID: r.GetRequestId(), LeaseID: r.GetLeaseId(), Renewable: r.GetRenewable(), LeaseDuration: r.GetLeaseDuration().AsDuration(),
		Warnings: r.GetWarnings(), Missing: r.GetMissing(), MountType: r.GetMountType(), Index: r.GetIndex(),
	}
	if len(r.GetData()) > 0 {
		a.Data = Value{KindJSON, r.GetData()}
	}
	if t := r.GetAuth(); t != nil {
		a.Auth = &Auth{
			Token: NewToken(t.GetClientToken()), Accessor: t.GetAccessor(), Policies: t.GetPolicies(), Metadata: t.GetMetadata(),
			LeaseDuration: t.GetLeaseDuration().AsDuration(), Renewable: t.GetRenewable(), EntityID: t.GetEntityId(),
			Type: t.GetTokenType(), Orphan: t.GetOrphan(), NumUses: t.GetNumUses(),
		}
	}
	if w := r.GetWrapInfo(); w != nil {
		a.Wrap = &WrapInfo{
			Token: NewToken(w.GetToken()), Accessor: w.GetAccessor(), TTL: w.GetTtl().AsDuration(), CreatedAt: timeFromProto(w.GetCreatedAt()),
			CreationPath: w.GetCreationPath(), WrappedAccessor: w.GetWrappedAccessor(),
		}
	}
	return a
}
