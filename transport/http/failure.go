package http

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// refuse writes an error in the words that clients know. Clients match some of
// them, so these texts are part of the API.
func (h *handler) refuse(w http.ResponseWriter, err error) {
	var own *statusError
	if errors.As(err, &own) {
		if own.code == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		if own.text == "" {
			fail(w, own.code)
		} else {
			fail(w, own.code, own.text)
		}
		return
	}
	var e *core.Error
	if !errors.As(err, &e) {
		h.logger.Error("a request failed", "error", err)
		fail(w, http.StatusInternalServerError, "internal error")
		return
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	code, text := spell(e)
	if code == http.StatusInternalServerError {
		h.logger.Error("a request failed", "error", errors.Unwrap(e))
	}
	if text == "" {
		fail(w, code)
		return
	}
	fail(w, code, text)
}

// statuses are the codes of the reasons. What is not here is an internal error.
var statuses = map[conclavev1.Reason]int{
	conclavev1.Reason_REASON_INVALID:                http.StatusBadRequest,
	conclavev1.Reason_REASON_UNAUTHENTICATED:        http.StatusForbidden,
	conclavev1.Reason_REASON_DENIED:                 http.StatusForbidden,
	conclavev1.Reason_REASON_NOT_FOUND:              http.StatusNotFound,
	conclavev1.Reason_REASON_VERSION_DELETED:        http.StatusNotFound,
	conclavev1.Reason_REASON_VERSION_DESTROYED:      http.StatusNotFound,
	conclavev1.Reason_REASON_CAS_MISMATCH:           http.StatusBadRequest,
	conclavev1.Reason_REASON_CAS_REQUIRED:           http.StatusBadRequest,
	conclavev1.Reason_REASON_TOO_LARGE:              http.StatusRequestEntityTooLarge,
	conclavev1.Reason_REASON_SEALED:                 http.StatusServiceUnavailable,
	conclavev1.Reason_REASON_NOT_INITIALIZED:        http.StatusServiceUnavailable,
	conclavev1.Reason_REASON_ALREADY_INITIALIZED:    http.StatusBadRequest,
	conclavev1.Reason_REASON_NO_LEADER:              http.StatusServiceUnavailable,
	conclavev1.Reason_REASON_OVERLOADED:             http.StatusServiceUnavailable,
	conclavev1.Reason_REASON_DISK_FULL:              http.StatusServiceUnavailable,
	conclavev1.Reason_REASON_LEASE_EXPIRED:          http.StatusBadRequest,
	conclavev1.Reason_REASON_SHARE_GARBLED:          http.StatusBadRequest,
	conclavev1.Reason_REASON_SHARE_WRONG:            http.StatusBadRequest,
	conclavev1.Reason_REASON_SHARE_REPEATED:         http.StatusBadRequest,
	conclavev1.Reason_REASON_SHARE_FOREIGN_CLUSTER:  http.StatusBadRequest,
	conclavev1.Reason_REASON_SHARE_WRONG_GENERATION: http.StatusBadRequest,
	conclavev1.Reason_REASON_UNSAFE:                 http.StatusBadRequest,
	conclavev1.Reason_REASON_INDEX_NOT_REACHED:      http.StatusPreconditionFailed,
	conclavev1.Reason_REASON_OUTSIDE:                http.StatusBadGateway,
}

// spell is the code and the text for an error of core.
func spell(e *core.Error) (code int, text string) {
	var invalid *engine.InvalidError
	code, ok := statuses[e.Reason]
	switch {
	case !ok:
		return http.StatusInternalServerError, e.Message
	case errors.Is(e, core.ErrNoMount):
		return code, "no handler for route. route entry not found."
	case errors.Is(e, core.ErrNoRoute):
		return http.StatusNotFound, "1 error occurred:\n\t* unsupported path\n\n"
	case errors.Is(e, core.ErrNoVerb):
		return http.StatusMethodNotAllowed, "1 error occurred:\n\t* unsupported operation\n\n"
	case errors.As(e, &invalid):
		return code, invalid.Why
	}
	switch e.Reason {
	case conclavev1.Reason_REASON_UNAUTHENTICATED:
		return code, "permission denied"
	case conclavev1.Reason_REASON_DENIED:
		if e.Message != "permission denied" {
			return code, e.Message
		}
		return code, "1 error occurred:\n\t* permission denied\n\n"
	case conclavev1.Reason_REASON_NOT_FOUND:
		return code, ""
	case conclavev1.Reason_REASON_CAS_MISMATCH:
		return code, "check-and-set parameter did not match the current version"
	case conclavev1.Reason_REASON_CAS_REQUIRED:
		return code, "check-and-set parameter required for this call"
	case conclavev1.Reason_REASON_SEALED:
		return code, "Vault is sealed"
	case conclavev1.Reason_REASON_NOT_INITIALIZED:
		return code, "Vault is not initialized"
	case conclavev1.Reason_REASON_ALREADY_INITIALIZED:
		return code, "Vault is already initialized"
	}
	return code, e.Message
}

func typeName(v any) string { return fmt.Sprintf("%T", v) }
