package http

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/core"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// The numbers of a node come as text for Prometheus or as JSON, with what this
// handler has answered so far.
func TestMetrics(t *testing.T) {
	n := &recorder{gauges: []Gauge{
		{Name: "raft_members", Help: "members", Labels: []Label{{"kind", "voter"}}, Value: 3},
		{Name: "a_first", Help: "the first", Value: 1.5},
		{Name: "raft_members", Help: "members", Labels: []Label{{"kind", "non\"voter\\\n"}}, Value: 0},
	}}
	h := Handler(Options{Node: n, Logger: slog.New(slog.DiscardHandler)})
	ask := func(method, target string) *httptest.ResponseRecorder {
		r, w := newRequest(method, target, "", "X-Vault-Token", "t")
		h.ServeHTTP(w, r)
		return w
	}
	ask("PUT", "/v1/a")
	ask("PUT", "/v1/a")
	ask("GET", "/v1/a//b")
	ask("BREW", "/v1/a")
	w := ask("GET", "/v1/sys/metrics?format=prometheus")
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if string(n.caller.Token.Expose()) != "t" {
		t.Error("the node was not told who asks")
	}
	text := w.Body.String()
	for _, want := range []string{
		"# HELP conclave_a_first the first\n# TYPE conclave_a_first gauge\nconclave_a_first 1.5\n",
		"# TYPE conclave_raft_members gauge\nconclave_raft_members{kind=\"voter\"} 3\nconclave_raft_members{kind=\"non\\\"voter\\\\\\n\"} 0\n",
		"# TYPE conclave_http_requests_total counter\n",
		"conclave_http_requests_total{method=\"PUT\",code=\"204\"} 2\n",
		"conclave_http_requests_total{method=\"GET\",code=\"400\"} 1\n",
		"conclave_http_requests_total{method=\"other\",code=\"405\"} 1\n",
		"conclave_http_requests_in_flight 1\n",
		"# TYPE conclave_http_request_seconds_total counter\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	if strings.Count(text, "# TYPE conclave_raft_members ") != 1 {
		t.Error("a name is declared twice")
	}
	var body struct {
		Timestamp string
		Gauges    []struct {
			Name   string
			Value  float64
			Labels map[string]string
		}
		Counters []struct {
			Name   string
			Count  float64
			Labels map[string]string
		}
	}
	w = ask("GET", "/v1/sys/metrics")
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 200 || len(body.Gauges) != 4 || body.Timestamp == "" {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	if c := body.Counters[0]; c.Name != "conclave_http_requests_total" || c.Labels["code"] == "" || c.Count != 1 {
		t.Errorf("counter %+v", c)
	}
	if w = ask("GET", "/v1/sys/metrics?format=xml"); w.Code != 400 {
		t.Errorf("an unknown format: %d", w.Code)
	}
	n.err = core.Denied("permission denied")
	for _, path := range []string{"/v1/sys/metrics", "/v1/sys/host-info"} {
		if w = ask("GET", path); w.Code != 403 || strings.Contains(w.Body.String(), "raft") {
			t.Errorf("%s without a right: %d %s", path, w.Code, w.Body)
		}
	}
	n.err = nil
	if w = ask("GET", "/v1/sys/host-info"); w.Code != 200 || !strings.Contains(w.Body.String(), `"request_id":"an id"`) || !strings.Contains(w.Body.String(), `"hostname":"here"`) {
		t.Errorf("host-info: %d %s", w.Code, w.Body)
	}
}

// The endpoints of a node have methods of their own, and no namespaces.
func TestEndpointsOfTheNode(t *testing.T) {
	for name, c := range map[string]struct {
		method, target string
		headers        []string
		code           int
		text           string
	}{
		"a health check by HEAD":     {"HEAD", "/v1/sys/health", nil, 429, ""},
		"health with a slash":        {"GET", "/v1/sys/health/", nil, 429, ""},
		"writing health":             {"PUT", "/v1/sys/health", nil, 405, ""},
		"HEAD of the seal status":    {"HEAD", "/v1/sys/seal-status", nil, 405, ""},
		"reading unseal":             {"GET", "/v1/sys/unseal", nil, 405, ""},
		"deleting init":              {"DELETE", "/v1/sys/init", nil, 405, ""},
		"listing leader":             {"LIST", "/v1/sys/leader", nil, 405, ""},
		"seal status in a namespace": {"GET", "/v1/sys/seal-status", []string{"X-Vault-Namespace", "team"}, 400, "operation unavailable in namespaces"},
		"seal status in the root":    {"GET", "/v1/sys/seal-status", []string{"X-Vault-Namespace", "root"}, 200, ""},
		"an empty namespace":         {"GET", "/v1/sys/seal-status", []string{"X-Vault-Namespace", ""}, 200, ""},
		"sealing with a bad token":   {"PUT", "/v1/sys/seal", []string{"X-Vault-Token", "a\x01"}, 400, "the token has characters that no token has"},
		"unsealing with nothing":     {"PUT", "/v1/sys/unseal", nil, 400, "'key' must be specified in request body as JSON, or 'reset' set to true"},
	} {
		n := &recorder{status: &conclavev1.GetStatusResponse{Initialized: true, Role: "follower"}}
		w := send(n, c.method, c.target, "", c.headers...)
		if w.Code != c.code || c.text != "" && !strings.Contains(w.Body.String(), c.text) || n.asked != nil {
			t.Errorf("%s: %d %s, asked %v", name, w.Code, w.Body, n.asked)
		}
	}
}

// Help and the OpenAPI document come as they are, unless they are wrapped.
func TestBareAnswers(t *testing.T) {
	n := &recorder{reply: &core.Reply{}}
	n.reply.Data = map[string]string{"openapi": "3.0.3"}
	w := send(n, "GET", "/v1/secret/data/a?help=1", "")
	if !n.asked.Help || n.asked.Path != "secret/data/a" || n.asked.Input.Query.Has("help") || w.Body.String() != "{\"openapi\":\"3.0.3\"}\n" {
		t.Errorf("help: asked %+v, answered %s", n.asked, w.Body)
	}
	if w = send(n, "GET", "/v1/sys/internal/specs/openapi", ""); w.Body.String() != "{\"openapi\":\"3.0.3\"}\n" {
		t.Errorf("openapi: %s", w.Body)
	}
	n.reply.Wrap = &core.WrapInfo{}
	if w = send(n, "GET", "/v1/sys/internal/specs/openapi", ""); !strings.Contains(w.Body.String(), "wrap_info") {
		t.Errorf("wrapped: %s", w.Body)
	}
	for _, target := range []string{"/v1/a?help=maybe", "/v1/a?help=1&list=x"} {
		if w = send(n, "GET", target, ""); w.Code != 400 {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
	if w = send(n, "PUT", "/v1/a?help=1", ""); w.Code != 405 {
		t.Errorf("help by PUT: %d", w.Code)
	}
}
