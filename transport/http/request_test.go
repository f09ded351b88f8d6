package http

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// recorder is a node that writes down what it is asked and answers as it is told.
// What a real node answers, internal/testforeign asks.
type recorder struct {
	asked  *core.Request
	caller core.Caller
	reply  *core.Reply
	err    error
	status *conclavev1.GetStatusResponse
	gauges []Gauge
}

func (n *recorder) Serve(_ context.Context, c core.Caller, q core.Request) (*core.Reply, error) {
	n.asked, n.caller = &q, c
	if n.reply == nil && n.err == nil {
		return &core.Reply{}, nil
	}
	return n.reply, n.err
}

func (n *recorder) Status(context.Context) (*conclavev1.GetStatusResponse, error) {
	return n.status, nil
}

var errRecorder = errors.New("a recorder does nothing")

func (n *recorder) Init(context.Context, *conclavev1.InitRequest) (*conclavev1.InitResponse, error) {
	return nil, errRecorder
}
func (n *recorder) Unseal(context.Context, *conclavev1.UnsealRequest) (*conclavev1.UnsealResponse, error) {
	return nil, errRecorder
}
func (n *recorder) Seal(context.Context, core.Caller) error { return errRecorder }
func (n *recorder) Members(context.Context, core.Caller) (*conclavev1.MembersResponse, error) {
	return nil, errRecorder
}
func (n *recorder) TransferLeadership(context.Context, core.Caller, string) (string, error) {
	return "", errRecorder
}

func (n *recorder) ClusterID() string { return "00112233445566778899aabbccddeeff" }
func (n *recorder) Vouch(text string) ([]byte, error) {
	m := hmac.New(sha256.New, []byte("a key"))
	m.Write([]byte(text))
	return m.Sum(nil), nil
}
func (n *recorder) Host(context.Context, core.Caller) (*Host, string, error) {
	return &Host{Machine: Machine{Hostname: "here"}}, "an id", n.err
}
func (n *recorder) Gauges(_ context.Context, c core.Caller) ([]Gauge, error) {
	n.caller = c
	return n.gauges, n.err
}

// mark is what a node hands out for an index.
func mark(index uint64) string { return (&handler{node: &recorder{}}).mark(index) }

func newRequest(method, target, body string, headers ...string) (*http.Request, *httptest.ResponseRecorder) {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r, httptest.NewRecorder()
}

func newHandler(n Node) http.Handler {
	return Handler(Options{Node: n, Version: "1.17.0+conclave", Logger: slog.New(slog.DiscardHandler)})
}

func newServer(t *testing.T, n Node) *httptest.Server {
	s := httptest.NewUnstartedServer(newHandler(n))
	Harden(s.Config)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func send(n *recorder, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r, w := newRequest(method, target, body, headers...)
	newHandler(n).ServeHTTP(w, r)
	return w
}

func replyAt(index uint64) *core.Reply { return &core.Reply{Index: index} }

// What methods, parameters and headers ask for.
func TestRequestsAreUnderstood(t *testing.T) {
	for name, c := range map[string]struct {
		method, target, body string
		headers              []string
		verb                 engine.Verb
		path                 string
	}{
		"read":                 {method: "GET", target: "/v1/secret/data/a", verb: engine.VerbRead, path: "secret/data/a"},
		"read of a directory":  {method: "GET", target: "/v1/secret/data/a/", verb: engine.VerbRead, path: "secret/data/a"},
		"list by method":       {method: "LIST", target: "/v1/secret/metadata", verb: engine.VerbList, path: "secret/metadata"},
		"list by parameter":    {method: "GET", target: "/v1/secret/metadata/?list=true", verb: engine.VerbList, path: "secret/metadata"},
		"no list by parameter": {method: "GET", target: "/v1/secret/x?list=0", verb: engine.VerbRead, path: "secret/x"},
		"put":                  {method: "PUT", target: "/v1/x/y", body: `{"a":1}`, verb: engine.VerbWrite, path: "x/y"},
		"post without a type":  {method: "POST", target: "/v1/x/y", body: `{"a":1}`, verb: engine.VerbWrite, path: "x/y"},
		"a form":               {method: "POST", target: "/v1/x/y", body: `a=1`, headers: []string{"Content-Type", "application/x-www-form-urlencoded"}, verb: engine.VerbWrite, path: "x/y"},
		"patch":                {method: "PATCH", target: "/v1/x/y", body: `{"a":1}`, headers: []string{"Content-Type", "application/merge-patch+json"}, verb: engine.VerbPatch, path: "x/y"},
		"delete":               {method: "DELETE", target: "/v1/x/y", verb: engine.VerbDelete, path: "x/y"},
		"an escaped name":      {method: "GET", target: "/v1/x/a%20b", verb: engine.VerbRead, path: "x/a b"},
		"the root namespace":   {method: "GET", target: "/v1/x/y", headers: []string{"X-Vault-Namespace", "root"}, verb: engine.VerbRead, path: "x/y"},
	} {
		n := &recorder{}
		w := send(n, c.method, c.target, c.body, c.headers...)
		if n.asked == nil || n.asked.Verb != c.verb || n.asked.Path != c.path {
			t.Errorf("%s: asked %+v, answered %d %s", name, n.asked, w.Code, w.Body)
			continue
		}
		if c.body != "" && strings.Trim(string(n.asked.Input.Body["a"]), `"`) != "1" {
			t.Errorf("%s: body %v", name, n.asked.Input.Body)
		}
	}
	n := &recorder{}
	send(n, "GET", "/v1/x", "", "Authorization", "Bearer t", "X-Conclave-Reason", "why", "X-Vault-Wrap-TTL", "5m", "X-Vault-Index", mark(7))
	if string(n.caller.Token.Expose()) != "t" || n.caller.Reason != "why" || n.asked.WrapTTL != 5*time.Minute || n.asked.Read.AtLeastIndex != 7 {
		t.Errorf("asked %+v by %+v", n.asked, n.caller)
	}
}

// What makes no sense is refused before anybody is asked, with a code and a text,
// and nothing of what was sent comes back.
func TestBadRequests(t *testing.T) {
	for name, c := range map[string]struct {
		method, target, body string
		headers              []string
		code                 int
	}{
		"no API":                {"GET", "/ui/", "", nil, 404},
		"no path":               {"GET", "/v1/", "", nil, 404},
		"an empty segment":      {"GET", "/v1/a//b", "", nil, 400},
		"dots":                  {"GET", "/v1/a/../b", "", nil, 400},
		"escaped dots":          {"GET", "/v1/a/%2e%2e/b", "", nil, 400},
		"one dot":               {"GET", "/v1/a/./b", "", nil, 400},
		"NUL":                   {"GET", "/v1/a%00" + canary, "", nil, 400},
		"a newline":             {"GET", "/v1/a%0a" + canary, "", nil, 400},
		"invalid UTF-8":         {"GET", "/v1/a%ff" + canary, "", nil, 400},
		"a long path":           {"GET", "/v1/" + strings.Repeat("a", 5000), "", nil, 400},
		"writing to a folder":   {"PUT", "/v1/a/", `{}`, nil, 400},
		"a bad list parameter":  {"GET", "/v1/a?list=" + canary, "", nil, 400},
		"an unknown method":     {"BREW", "/v1/a", "", nil, 405},
		"HEAD":                  {"HEAD", "/v1/a", "", nil, 405},
		"PATCH of no patch":     {"PATCH", "/v1/a", `{}`, []string{"Content-Type", "application/json"}, 415},
		"an unknown namespace":  {"GET", "/v1/a", "", []string{"X-Vault-Namespace", canary}, 404},
		"a bad wrap TTL":        {"GET", "/v1/a", "", []string{"X-Vault-Wrap-TTL", canary}, 400},
		"a negative wrap TTL":   {"GET", "/v1/a", "", []string{"X-Vault-Wrap-TTL", "-5"}, 400},
		"an endless wrap TTL":   {"GET", "/v1/a", "", []string{"X-Vault-Wrap-TTL", "900000h"}, 400},
		"a foreign index":       {"GET", "/v1/a", "", []string{"X-Vault-Index", canary}, 400},
		"a bad help parameter":  {"GET", "/v1/a?help=" + canary, "", nil, 400},
		"help by PUT":           {"PUT", "/v1/a?help=1", "{}", nil, 405},
		"a long reason":         {"GET", "/v1/a", "", []string{"X-Conclave-Reason", canary + strings.Repeat("x", 512)}, 400},
		"a reason in two lines": {"GET", "/v1/a", "", []string{"X-Conclave-Reason", "a\t" + canary}, 400},
		"a reason, not UTF-8":   {"GET", "/v1/a", "", []string{"X-Conclave-Reason", "\xff" + canary}, 400},
		"a token with a NUL":    {"GET", "/v1/a", "", []string{"X-Vault-Token", "a\x00" + canary}, 400},
		"a bad bearer":          {"GET", "/v1/a", "", []string{"Authorization", "Bearer a " + canary}, 400},
		"a number":              {"PUT", "/v1/a", "12345", nil, 400},
		"text":                  {"PUT", "/v1/a", `"` + canary + `"`, nil, 400},
		"no JSON":               {"PUT", "/v1/a", canary, nil, 400},
		"msgpack":               {"PUT", "/v1/a", "\x81\xa1a\xa1" + canary, []string{"Content-Type", "application/msgpack"}, 400},
		"a form of no sense":    {"PUT", "/v1/a", "a=%zz" + canary, []string{"Content-Type", "application/x-www-form-urlencoded"}, 400},
		"a trailing slash":      {"DELETE", "/v1//a", "", nil, 400},
		"escaped slashes":       {"GET", "/v1/a%2f%2fb", "", nil, 400},
		"an escaped dot":        {"GET", "/v1/a/%2e/b", "", nil, 400},
		"a bad consistency":     {"GET", "/v1/a", "", []string{"X-Conclave-Consistency", canary}, 400},
		"a token with a space":  {"GET", "/v1/a", "", []string{"X-Vault-Token", "a " + canary}, 400},
		"an array":              {"PUT", "/v1/a", `["` + canary + `"]`, nil, 400},
		"half an object":        {"PUT", "/v1/a", `{"` + canary, nil, 400},
		"two objects":           {"PUT", "/v1/a", `{} {}`, nil, 400},
		"a deep nest":           {"PUT", "/v1/a", `{"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`, nil, 400},
		"a body that is large":  {"PUT", "/v1/a", `{"a":"` + strings.Repeat("x", MaxBody) + `"}`, nil, 413},
		"a query with bad code": {"GET", "/v1/a?x=%zz" + canary, "", nil, 400},
	} {
		n := &recorder{}
		w := send(n, c.method, c.target, c.body, c.headers...)
		if w.Code != c.code || n.asked != nil {
			t.Errorf("%s: code %d, asked %v; want %d: %s", name, w.Code, n.asked, c.code, w.Body)
		}
		if strings.Contains(w.Body.String(), canary) {
			t.Errorf("%s: the answer repeats what was sent: %s", name, w.Body)
		}
		var body struct{ Errors []string }
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Errors == nil {
			t.Errorf("%s: the answer is no error: %s", name, w.Body)
		}
		if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", name, w.Header())
		}
	}
}

// The codes and texts that clients match.
func TestErrorsAsClientsKnowThem(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code int
		text string
	}{
		"sealed":         {&core.Error{Reason: conclavev1.Reason_REASON_SEALED, Message: "x"}, 503, "Vault is sealed"},
		"no token":       {&core.Error{Reason: conclavev1.Reason_REASON_UNAUTHENTICATED, Message: "no token was sent"}, 403, "permission denied"},
		"not allowed":    {core.Denied("permission denied"), 403, "1 error occurred:\n\t* permission denied\n\n"},
		"not found":      {&core.Error{Reason: conclavev1.Reason_REASON_NOT_FOUND, Message: "x"}, 404, ""},
		"check-and-set":  {&core.Error{Reason: conclavev1.Reason_REASON_CAS_MISMATCH, Message: "x"}, 400, "check-and-set parameter did not match the current version"},
		"a busy cluster": {&core.Error{Reason: conclavev1.Reason_REASON_OVERLOADED, Message: "busy", RetryAfter: 200 * time.Millisecond}, 503, "busy"},
		"a node behind":  {&core.Error{Reason: conclavev1.Reason_REASON_INDEX_NOT_REACHED, Message: "behind"}, 412, "behind"},
		"unknown":        {&core.Error{Reason: conclavev1.Reason_REASON_UNKNOWN_OUTCOME, Message: "whether"}, 500, "whether"},
		"anything else":  {errors.New("secret detail"), 500, "internal error"},
	} {
		w := send(&recorder{err: c.err}, "GET", "/v1/a", "")
		var body struct{ Errors []string }
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != c.code {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if got := strings.Join(body.Errors, "|"); got != c.text {
			t.Errorf("%s: text %q, want %q", name, got, c.text)
		}
		if c.code == 503 && name == "a busy cluster" && w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: no hint when to retry", name)
		}
	}
}

// The envelope has all its keys, and nothing to say is said with 204.
func TestEnvelope(t *testing.T) {
	w := send(&recorder{}, "PUT", "/v1/a", "{}")
	if w.Code != 204 || w.Body.Len() != 0 {
		t.Errorf("nothing: %d %q", w.Code, w.Body)
	}
	r := &core.Reply{Index: 9}
	r.Data = map[string]string{"k": "<v>"}
	w = send(&recorder{reply: r}, "GET", "/v1/sys/mounts", "")
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, key := range []string{"request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth"} {
		if _, there := body[key]; !there {
			t.Errorf("the envelope lacks %s", key)
		}
	}
	if body["k"] != "<v>" {
		t.Error("the data of sys/mounts is not at the top")
	}
	if got := w.Header().Get("X-Vault-Index"); got != mark(9) {
		t.Errorf("index %q", got)
	}
	r.Missing = true
	if w = send(&recorder{reply: r}, "GET", "/v1/x", ""); w.Code != 404 {
		t.Errorf("missing: %d", w.Code)
	}
}

// A load balancer reads the state of a node from a code that it may choose.
func TestHealth(t *testing.T) {
	for _, c := range []struct {
		initialized, sealed bool
		role, query         string
		code                int
	}{
		{true, false, "leader", "", 200},
		{true, false, "follower", "", 429},
		{true, false, "follower", "?standbyok=true", 200},
		{true, false, "follower", "?standbycode=299", 299},
		{true, false, "leader", "?activecode=222", 222},
		{true, true, "follower", "", 503},
		{true, true, "follower", "?sealedcode=299", 299},
		{false, true, "uninitialized", "", 501},
		{false, true, "uninitialized", "?uninitcode=200", 200},
		{true, false, "leader", "?activecode=9999", 200},
	} {
		n := &recorder{status: &conclavev1.GetStatusResponse{Initialized: c.initialized, Sealed: c.sealed, Role: c.role, ClusterId: "0123456789abcdef"}}
		for _, method := range []string{"GET", "HEAD"} {
			w := send(n, method, "/v1/sys/health"+c.query, "")
			if w.Code != c.code || (method == "HEAD") != (w.Body.Len() == 0) {
				t.Errorf("%s %+v: %d %s", method, c, w.Code, w.Body)
			}
		}
	}
}

// A node that has as much to do as it can refuses at once.
func TestOverload(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	h := Handler(Options{Node: &slow{recorder{}, entered, leave}, Logger: slog.New(slog.DiscardHandler), MaxInFlight: 1})
	go h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v1/a", nil))
	<-entered
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/a", nil))
	close(leave)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// slow answers when it is told to.
type slow struct {
	recorder
	entered, leave chan struct{}
}

func (n *slow) Serve(context.Context, core.Caller, core.Request) (*core.Reply, error) {
	close(n.entered)
	<-n.leave
	return &core.Reply{}, nil
}

// No request makes the adapter panic, and what it passes on is what it says.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/v1/a/b?list=true", "", "5m")
	f.Add("PUT", "/v1/a", `{"a":{"b":[1,"\u0000"]}}`, "")
	f.Add("PATCH", "/v1/sys/health", `{`, "1d")
	f.Fuzz(func(t *testing.T, method, target, body, wrap string) {
		r, err := http.NewRequest(method, "http://x"+target, bytes.NewReader([]byte(body)))
		if err != nil {
			return
		}
		r.Header.Set("X-Vault-Wrap-TTL", wrap)
		n := &recorder{status: &conclavev1.GetStatusResponse{}}
		var logged bytes.Buffer
		w := httptest.NewRecorder()
		Handler(Options{Node: n, Version: "1", Logger: slog.New(slog.NewTextHandler(&logged, nil))}).ServeHTTP(w, r)
		if strings.Contains(logged.String(), "panic") {
			t.Fatal(logged.String())
		}
		if n.asked != nil && (strings.Contains(n.asked.Path, "//") || strings.HasPrefix(n.asked.Path, "/") || n.asked.Path == "") {
			t.Errorf("path %q", n.asked.Path)
		}
		if _, err := io.Copy(io.Discard, w.Body); err != nil {
			t.Error(err)
		}
	})
}
