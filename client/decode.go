package client

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// decode turns what one attempt returned into an Error. The ErrorDetail of the
// server decides; without one (an answer of gRPC itself, or of something in
// between) the status code does, and then a write that may have left this
// process counts as unknown.
func decode(err error, mayHaveRun bool) *Error {
	st := status.Convert(err)
	for _, d := range st.Details() {
		if detail, ok := d.(*conclavev1.ErrorDetail); ok {
			return fromDetail(st, detail)
		}
	}
	e := &Error{Message: st.Message(), Reason: reasonOfCode(st.Code()), Outcome: OutcomeNotDone}
	if mayHaveRun && !refusedUnread(st.Code()) {
		e.Outcome = OutcomeUnknown
	}
	if st.Code() == codes.ResourceExhausted { // gRPC's own refusal, before a handler ran
		e.Message = "the request, or its answer, is too large for one message"
		e.Hint = "Split it, or raise limits.max_value_bytes in the servers' configuration."
	}
	if e.Message == "" {
		e.Message = strings.ToLower(st.Code().String())
	}
	return e
}

func fromDetail(st *status.Status, d *conclavev1.ErrorDetail) *Error {
	e := &Error{
		Message:        st.Message(),
		Reason:         reasonFromProto(d.GetReason()),
		Outcome:        outcomeFromProto(d.GetOutcome()),
		Hint:           d.GetHint(),
		CurrentVersion: d.GetCurrentVersion(),
		ShareIndex:     d.GetShareIndex(),
	}
	if d.GetRetryAfter().IsValid() {
		e.RetryAfter = max(0, d.GetRetryAfter().AsDuration())
	}
	// The reason is the stronger statement: a server that says "unknown
	// outcome" and forgets the outcome must not read as a failure.
	if e.Reason == ReasonUnknownOutcome {
		e.Outcome = OutcomeUnknown
	}
	return e
}

func reasonFromProto(r conclavev1.Reason) Reason {
	name, known := conclavev1.Reason_name[int32(r)]
	if !known || r == conclavev1.Reason_REASON_UNSPECIFIED {
		return ReasonInternal // a reason of a newer server
	}
	return Reason(strings.ToLower(strings.TrimPrefix(name, "REASON_")))
}

// outcomeFromProto takes a missing outcome for unknown, the only answer that
// is never wrong.
func outcomeFromProto(o conclavev1.Outcome) Outcome {
	switch o {
	case conclavev1.Outcome_OUTCOME_DONE:
		return OutcomeDone
	case conclavev1.Outcome_OUTCOME_NOT_DONE:
		return OutcomeNotDone
	default:
		return OutcomeUnknown
	}
}

func reasonOfCode(c codes.Code) Reason {
	switch c {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return ReasonUnavailable
	case codes.Unauthenticated:
		return ReasonUnauthenticated
	case codes.PermissionDenied:
		return ReasonDenied
	case codes.NotFound:
		return ReasonNotFound
	case codes.ResourceExhausted:
		return ReasonTooLarge
	case codes.InvalidArgument, codes.Unimplemented, codes.OutOfRange:
		return ReasonInvalid
	case codes.AlreadyExists, codes.Aborted, codes.FailedPrecondition:
		return ReasonConflict
	default:
		return ReasonInternal
	}
}

// refusedUnread lists the codes that gRPC itself answers before a handler ran:
// a method it does not know, credentials or a message that it does not take.
func refusedUnread(c codes.Code) bool {
	switch c {
	case codes.Unimplemented, codes.Unauthenticated, codes.ResourceExhausted:
		return true
	}
	return false
}

// ended is the error of a call whose context ended with nothing better to say.
func ended(cause error) *Error {
	e := &Error{Reason: ReasonEnded, Outcome: OutcomeNotDone, cause: cause}
	switch {
	case errors.Is(cause, context.DeadlineExceeded):
		e.Message = "the time for this call ran out"
		e.Hint = "Allow more time, or find out with 'conclave status' why the cluster is slow."
	case errors.Is(cause, context.Canceled):
		e.Message = "the call was cancelled"
	default:
		e.Message = "the call was ended: " + cause.Error()
	}
	return e
}
