package grpc

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc/codes"
	gstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/core"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// code is how gRPC spells each reason.
var code = map[conclavev1.Reason]codes.Code{
	conclavev1.Reason_REASON_INVALID:                codes.InvalidArgument,
	conclavev1.Reason_REASON_UNAUTHENTICATED:        codes.Unauthenticated,
	conclavev1.Reason_REASON_DENIED:                 codes.PermissionDenied,
	conclavev1.Reason_REASON_NOT_FOUND:              codes.NotFound,
	conclavev1.Reason_REASON_VERSION_DELETED:        codes.NotFound,
	conclavev1.Reason_REASON_VERSION_DESTROYED:      codes.NotFound,
	conclavev1.Reason_REASON_CAS_MISMATCH:           codes.Aborted,
	conclavev1.Reason_REASON_CAS_REQUIRED:           codes.FailedPrecondition,
	conclavev1.Reason_REASON_CONFLICT:               codes.Aborted,
	conclavev1.Reason_REASON_IDEMPOTENCY_MISMATCH:   codes.InvalidArgument,
	conclavev1.Reason_REASON_TOO_LARGE:              codes.InvalidArgument,
	conclavev1.Reason_REASON_SEALED:                 codes.Unavailable,
	conclavev1.Reason_REASON_NOT_INITIALIZED:        codes.Unavailable,
	conclavev1.Reason_REASON_ALREADY_INITIALIZED:    codes.FailedPrecondition,
	conclavev1.Reason_REASON_NO_LEADER:              codes.Unavailable,
	conclavev1.Reason_REASON_OVERLOADED:             codes.ResourceExhausted,
	conclavev1.Reason_REASON_UNKNOWN_OUTCOME:        codes.DeadlineExceeded,
	conclavev1.Reason_REASON_SHARE_GARBLED:          codes.InvalidArgument,
	conclavev1.Reason_REASON_SHARE_WRONG:            codes.InvalidArgument,
	conclavev1.Reason_REASON_SHARE_REPEATED:         codes.AlreadyExists,
	conclavev1.Reason_REASON_SHARE_FOREIGN_CLUSTER:  codes.InvalidArgument,
	conclavev1.Reason_REASON_SHARE_WRONG_GENERATION: codes.InvalidArgument,
	conclavev1.Reason_REASON_JOIN_TOKEN_INVALID:     codes.PermissionDenied,
	conclavev1.Reason_REASON_JOIN_TOKEN_EXPIRED:     codes.PermissionDenied,
	conclavev1.Reason_REASON_LEASE_EXPIRED:          codes.FailedPrecondition,
	conclavev1.Reason_REASON_LEASE_EXISTS:           codes.AlreadyExists,
	conclavev1.Reason_REASON_DISK_FULL:              codes.ResourceExhausted,
	conclavev1.Reason_REASON_INTERNAL:               codes.Internal,
	conclavev1.Reason_REASON_UNSAFE:                 codes.FailedPrecondition,
	conclavev1.Reason_REASON_INDEX_NOT_REACHED:      codes.Unavailable,
	conclavev1.Reason_REASON_OUTSIDE:                codes.FailedPrecondition,
}

// spell turns an error of core into a status with its detail.
func spell(err error) error {
	var e *core.Error
	if !errors.As(err, &e) {
		e = &core.Error{Reason: conclavev1.Reason_REASON_INTERNAL, Outcome: conclavev1.Outcome_OUTCOME_UNKNOWN,
			Message: "internal error; the node's log tells more"}
	}
	detail := &conclavev1.ErrorDetail{
		Reason: e.Reason, Outcome: e.Outcome, Hint: e.Hint,
		CurrentVersion: e.CurrentVersion, ShareIndex: uint32(e.Share),
	}
	if detail.Reason == conclavev1.Reason_REASON_INTERNAL && detail.Hint == "" {
		detail.Hint = "look into that node's log, or ask another node"
	}
	if e.RetryAfter > 0 {
		detail.RetryAfter = durationpb.New(e.RetryAfter)
	}
	c, ok := code[e.Reason]
	if !ok {
		c = codes.Unknown
	}
	s, derr := gstatus.New(c, e.Message).WithDetails(detail)
	if derr != nil { // a detail that cannot be encoded still leaves the status
		return gstatus.Error(c, e.Message)
	}
	return s.Err()
}

// logFailure logs what the node should know and the caller is not told. The
// causes come from our own rooms, which put no secret into an error.
func logFailure(ctx context.Context, log *slog.Logger, method string, err error) {
	var e *core.Error
	if errors.As(err, &e) && e.Reason != conclavev1.Reason_REASON_INTERNAL {
		log.Debug("call refused", "method", method, "reason", e.Reason.String())
		return
	}
	if ctx.Err() != nil {
		return // the caller has gone; nobody waits for this
	}
	cause := err
	if e != nil && e.Unwrap() != nil {
		cause = e.Unwrap()
	}
	log.Error("call failed", "method", method, "error", cause)
}
