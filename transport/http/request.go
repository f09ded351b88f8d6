package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/internal/redact"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// A statusError is a refusal of this package: a status code and its text.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return e.text }

func bad(format string, args ...any) *statusError {
	return &statusError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

var (
	errNotHere = &statusError{http.StatusNotFound, ""}
	errMethod  = &statusError{http.StatusMethodNotAllowed, ""}
)

// maxPath bounds a path, in bytes.
const maxPath = 4096

// cleanPath returns the path below /v1/. What could name one thing in two ways is
// refused and not mended: policies match what is written.
func cleanPath(u *url.URL) (string, error) {
	path, ok := strings.CutPrefix(u.Path, "/v1/")
	if !ok {
		return "", errNotHere
	}
	switch {
	case path == "":
		return "", errNotHere
	case len(path) > maxPath:
		return "", bad("the path is longer than %d bytes", maxPath)
	case !utf8.ValidString(path):
		return "", bad("the path is not valid UTF-8")
	case strings.ContainsFunc(path, unicode.IsControl):
		return "", bad("the path has a control character")
	case strings.Contains(path, "//") || strings.HasPrefix(path, "/"):
		return "", bad("the path has an empty segment")
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return "", bad("the path has a segment of dots")
		}
	}
	return path, nil
}

// readRequest turns an HTTP request into one that core answers.
func (h *handler) readRequest(r *http.Request, path string) (*core.Request, core.Caller, error) {
	q := &core.Request{Path: strings.TrimSuffix(path, "/")}
	c := caller(r)
	if err := checkCaller(c); err != nil {
		return nil, c, err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, c, bad("the query cannot be read")
	}
	if q.Verb, err = verb(r, query); err != nil {
		return nil, c, err
	}
	if q.Help, err = flag(query, "help"); err != nil {
		return nil, c, err
	}
	if q.Help && q.Verb != engine.VerbRead {
		return nil, c, errMethod
	}
	if q.Verb == engine.VerbWrite && strings.HasSuffix(path, "/") {
		return nil, c, bad("cannot write to a path ending in '/'")
	}
	if err := checkNamespace(r.Header.Get("X-Vault-Namespace")); err != nil {
		return nil, c, err
	}
	if q.WrapTTL, err = wrapTTL(r.Header.Get("X-Vault-Wrap-TTL")); err != nil {
		return nil, c, err
	}
	if q.Read, err = h.consistency(r.Header); err != nil {
		return nil, c, err
	}
	q.Input.Query = query
	if q.Verb == engine.VerbWrite || q.Verb == engine.VerbPatch {
		q.Raw, q.Input.Body, err = readBody(r)
	}
	return q, c, err
}

// caller is who sends r, by its headers and address.
func caller(r *http.Request) core.Caller {
	token := r.Header.Get("X-Vault-Token")
	if token == "" {
		if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			token = bearer
		}
	}
	c := core.Caller{Token: redact.New([]byte(token)), Reason: r.Header.Get("X-Conclave-Reason")}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Address = at.Addr().Unmap()
	}
	return c
}

// maxReason bounds a reason, in bytes: as much as the audit log keeps.
const maxReason = 512

// checkCaller refuses what no token looks like before anybody hashes it, and a reason
// that the audit log would not show as it was sent.
func checkCaller(c core.Caller) error {
	switch {
	case c.Token.Len() > 0 && !printable(c.Token.Expose()):
		return bad("the token has characters that no token has")
	case len(c.Reason) > maxReason:
		return bad("the header X-Conclave-Reason is longer than %d bytes", maxReason)
	case !utf8.ValidString(c.Reason), strings.ContainsFunc(c.Reason, unicode.IsControl):
		return bad("the header X-Conclave-Reason is not valid UTF-8, or has a control character")
	}
	return nil
}

func printable(p []byte) bool {
	return !bytes.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r > '~' })
}

func verb(r *http.Request, query url.Values) (engine.Verb, error) {
	switch r.Method {
	case "LIST":
		return engine.VerbList, nil
	case http.MethodGet:
		if list, err := flag(query, "list"); err != nil || list {
			return engine.VerbList, err
		}
		return engine.VerbRead, nil
	case http.MethodPost, http.MethodPut:
		return engine.VerbWrite, nil
	case http.MethodPatch:
		kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || kind != "application/merge-patch+json" {
			return 0, &statusError{http.StatusUnsupportedMediaType, "PATCH requires Content-Type to be application/merge-patch+json"}
		}
		return engine.VerbPatch, nil
	case http.MethodDelete:
		return engine.VerbDelete, nil
	}
	return 0, errMethod
}

// flag takes a truth value out of the query.
func flag(query url.Values, name string) (bool, error) {
	sent := query.Get(name)
	query.Del(name)
	if sent == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(sent)
	if err != nil {
		return false, bad("the parameter %s is neither true nor false", name)
	}
	return on, nil
}

// checkNamespace accepts the one namespace that there is.
func checkNamespace(name string) error {
	if name = strings.Trim(name, "/"); name == "" || name == "root" {
		return nil
	}
	return &statusError{http.StatusNotFound, "namespace not found"}
}

// maxWrapTTL bounds how long an answer may wait for its reader.
const maxWrapTTL = core.SystemTTL

func wrapTTL(sent string) (time.Duration, error) {
	if sent == "" {
		return 0, nil
	}
	ttl, err := engine.ParseDuration(sent)
	if err != nil || ttl < 0 {
		return 0, bad("the header X-Vault-Wrap-TTL is no duration")
	}
	if ttl > maxWrapTTL {
		return 0, bad("the header X-Vault-Wrap-TTL is longer than %v", maxWrapTTL)
	}
	return ttl, nil
}

// consistency reads what a client demands of the age of an answer: our own header,
// or the indexes of earlier answers.
func (h *handler) consistency(header http.Header) (*conclavev1.ReadOptions, error) {
	if marks := header.Values(indexHeader); len(marks) > 0 {
		index, err := h.highest(marks)
		if err != nil {
			return nil, err
		}
		if index > 0 && !toActive(header) {
			return &conclavev1.ReadOptions{Consistency: conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX, AtLeastIndex: index}, nil
		}
	}
	switch sent := header.Get("X-Conclave-Consistency"); {
	case sent == "" || sent == "linearizable":
		return nil, nil
	case sent == "local":
		return &conclavev1.ReadOptions{Consistency: conclavev1.Consistency_CONSISTENCY_LOCAL}, nil
	default:
		age, err := time.ParseDuration(sent)
		if err != nil || age <= 0 {
			return nil, bad("the header X-Conclave-Consistency is linearizable, local or an age such as 5s")
		}
		return &conclavev1.ReadOptions{Consistency: conclavev1.Consistency_CONSISTENCY_BOUNDED, MaxAge: durationpb.New(age)}, nil
	}
}

// readBody reads a JSON object, whatever the content type says, or a form.
func readBody(r *http.Request) (raw []byte, body engine.Object, err error) {
	raw, err = io.ReadAll(http.MaxBytesReader(nil, r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, errBodies):
		return nil, nil, errBodies
	case errors.As(err, &large):
		return nil, nil, &statusError{http.StatusRequestEntityTooLarge, "http: request body too large"}
	case err != nil:
		return nil, nil, bad("the body ended too early")
	}
	if raw = bytes.TrimSpace(raw); len(raw) > 0 && raw[0] != '{' && strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		if body, err = readForm(raw); err != nil {
			return nil, nil, err
		}
		raw, err = json.Marshal(body)
		return raw, body, err
	}
	if body, err = engine.ParseBody(raw); err != nil {
		return nil, nil, bad("%s", err)
	}
	return raw, body, nil
}

func readForm(raw []byte) (engine.Object, error) {
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, bad("failed to decode form input")
	}
	body := engine.Object{}
	for name, values := range form {
		text, err := json.Marshal(values[0])
		if err != nil {
			return nil, bad("failed to decode form input")
		}
		body[name] = text
	}
	return body, nil
}
