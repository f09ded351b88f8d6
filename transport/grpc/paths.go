package grpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

type paths struct {
	conclavev1.UnimplementedPathsServer
	node Node
}

// Call answers a request by verb and path.
func (s paths) Call(ctx context.Context, r *conclavev1.CallPathRequest) (*conclavev1.CallPathResponse, error) {
	rooms, err := s.node.Rooms()
	if err != nil {
		return nil, err
	}
	q, err := readCall(r)
	if err != nil {
		return nil, err
	}
	reply, err := rooms.Pipeline.Serve(ctx, caller(ctx), *q)
	if err != nil {
		return nil, err
	}
	return spellReply(reply)
}

// verbs are the verbs of the API that there are.
var verbs = map[conclavev1.Verb]engine.Verb{
	conclavev1.Verb_VERB_READ:   engine.VerbRead,
	conclavev1.Verb_VERB_LIST:   engine.VerbList,
	conclavev1.Verb_VERB_WRITE:  engine.VerbWrite,
	conclavev1.Verb_VERB_PATCH:  engine.VerbPatch,
	conclavev1.Verb_VERB_DELETE: engine.VerbDelete,
}

func invalid(hint, format string, args ...any) *core.Error {
	return &core.Error{Reason: conclavev1.Reason_REASON_INVALID, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE,
		Message: fmt.Sprintf(format, args...), Hint: hint}
}

// readCall turns a call into a request that core answers. What a client sent and
// cannot mean is refused, not left out.
func readCall(r *conclavev1.CallPathRequest) (*core.Request, error) {
	verb, ok := verbs[r.Verb]
	if !ok {
		return nil, invalid("use one of VERB_READ, VERB_LIST, VERB_WRITE, VERB_PATCH and VERB_DELETE", "the request has no verb that is known")
	}
	sends := verb == engine.VerbWrite || verb == engine.VerbPatch
	if r.Help && verb != engine.VerbRead {
		return nil, invalid("ask for help with VERB_READ", "a %s gives no help", verb)
	}
	q := &core.Request{Verb: verb, Help: r.Help, Read: r.Read}
	var err error
	if q.Path, err = readPath(r.Path, sends); err != nil {
		return nil, err
	}
	if q.WrapTTL, err = readWrapTTL(r.WrapTtl); err != nil {
		return nil, err
	}
	if !sends && len(r.Body) > 0 {
		return nil, invalid("send it as parameters", "a %s has no body", verb)
	}
	if q.Input.Body, err = engine.ParseBody(r.Body); err != nil {
		return nil, invalid("send one JSON object, or nothing", "%v", err)
	}
	q.Raw = r.Body
	if len(r.Parameters) > 0 {
		q.Input.Query = make(map[string][]string, len(r.Parameters))
		for name, p := range r.Parameters {
			q.Input.Query[name] = p.GetValues()
		}
	}
	return q, nil
}

// maxPath bounds a path, in bytes; as over HTTP.
const maxPath = 4096

// readPath returns the path without a trailing slash, which nothing depends on.
// What could name one thing in two ways is refused and not mended: policies match
// what is written.
func readPath(sent string, sends bool) (string, error) {
	path, err := engine.ParseDirectory(sent, maxPath)
	switch {
	case err != nil:
		return "", invalid("write it as segments between single slashes, like auth/token/lookup-self", "%v", err)
	case len(path) == 0:
		return "", invalid("name a mount and what is in it", "the path is empty")
	case sends && strings.HasSuffix(sent, "/"):
		return "", invalid("leave the slash out", "cannot write to a path ending in '/'")
	}
	return path.String(), nil
}

func readWrapTTL(sent *durationpb.Duration) (time.Duration, error) {
	if sent == nil {
		return 0, nil
	}
	ttl := sent.AsDuration() // what does not fit becomes the longest there is
	if ttl < 0 || ttl > core.SystemTTL || !sent.IsValid() {
		return 0, invalid("", "wrap_ttl is not between 0 and %v", core.SystemTTL)
	}
	return ttl, nil
}

// spellReply spells what core answered.
func spellReply(r *core.Reply) (*conclavev1.CallPathResponse, error) {
	data, err := encodeData(r.Data)
	if err != nil {
		return nil, err
	}
	out := &conclavev1.CallPathResponse{
		RequestId: r.RequestID, LeaseId: r.LeaseID, Renewable: r.Renewable, LeaseDuration: positive(r.LeaseDuration),
		Data: data, Warnings: r.Warnings, Missing: r.Missing, Auth: spellAuth(r.Auth), MountType: r.MountType, Index: r.Index,
	}
	if w := r.Wrap; w != nil {
		out.RequestId = "" // nothing leads from the wrapping to what it wraps
		out.WrapInfo = &conclavev1.PathWrapInfo{
			Token: string(w.Token.Expose()), Accessor: w.Accessor, Ttl: durationpb.New(w.TTL), CreatedAt: timestamppb.New(w.CreatedAt),
			CreationPath: w.CreationPath, WrappedAccessor: w.WrappedAccessor,
		}
	}
	return out, nil
}

// encodeData encodes an answer's data, unless the audit log needed that already.
func encodeData(data any) ([]byte, error) {
	if data == nil {
		return nil, nil
	}
	if raw, ok := data.(json.RawMessage); ok {
		return raw, nil
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // values stay as they were written
	if err := encoder.Encode(data); err != nil {
		return nil, fmt.Errorf("encoding an answer of type %T failed", data) // json's text may quote it
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func spellAuth(a *core.Auth) *conclavev1.PathAuth {
	if a == nil {
		return nil
	}
	return &conclavev1.PathAuth{
		ClientToken: string(a.Text), Accessor: a.Token.Accessor, Policies: a.Token.Policies, Metadata: a.Token.Metadata,
		LeaseDuration: positive(a.TTL), Renewable: a.Renewable, EntityId: a.Token.EntityID, TokenType: a.Token.Type(),
		Orphan: a.Token.Alone(), NumUses: a.Token.UsesLeft,
	}
}

// positive leaves out what says nothing.
func positive(d time.Duration) *durationpb.Duration {
	if d <= 0 {
		return nil
	}
	return durationpb.New(d)
}
