package http

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/engine"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

const canary = "hunter2-canary"

// Nothing that a request holds comes back in a refusal or goes into a log, whatever
// is wrong with it and wherever it fails: here, behind here, or with a panic.
func TestNothingIsRepeated(t *testing.T) {
	requests := []struct {
		method, target, body string
		headers              []string
	}{
		{"PUT", "/v1/a", `{"` + canary + `"`, nil},
		{"PUT", "/v1/a", `{"x":"` + canary + `\ud800"}`, nil},
		{"PUT", "/v1/a", `"` + canary + `"`, nil},
		{"PUT", "/v1/a", canary, nil},
		{"PUT", "/v1/a", canary + "=%zz", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{"PUT", "/v1/" + canary + "/", `{}`, nil},
		{"PUT", "/v1/a//" + canary, `{}`, nil},
		{"PUT", "/v1/a/" + canary, `{"x":"` + canary + `"}`, []string{"X-Vault-Token", canary, "X-Conclave-Reason", canary}},
		{"GET", "/v1/a?x=" + canary, "", []string{"X-Vault-Token", canary + " "}},
		{"GET", "/v1/a?list=" + canary, "", nil},
		{"GET", "/v1/a?help=" + canary, "", nil},
		{"GET", "/v1/a", "", []string{"X-Vault-Namespace", canary}},
		{"GET", "/v1/a", "", []string{"X-Vault-Wrap-TTL", canary}},
		{"GET", "/v1/a", "", []string{"X-Vault-Index", canary}},
		{"GET", "/v1/a", "", []string{"X-Conclave-Consistency", canary}},
		{"GET", "/v1/a", "", []string{"X-Conclave-Reason", canary + "\x01"}},
		{"GET", "/v1/a", "", []string{"X-Conclave-Reason", canary + strings.Repeat("x", 600)}},
		{canary, "/v1/a", "", nil},
		{"PATCH", "/v1/a", "{}", []string{"Content-Type", canary}},
		{"PUT", "/v1/sys/unseal", `{"key":"` + canary + `"}`, nil},
		{"PUT", "/v1/sys/unseal", `{"key":["` + canary + `"]}`, nil},
		{"PUT", "/v1/sys/init", `{"secret_shares":"` + canary + `"}`, nil},
		{"GET", "/v1/sys/metrics?format=" + canary, "", nil},
	}
	failures := map[string]error{
		"a refusal":       &core.Error{Reason: conclavev1.Reason_REASON_INVALID, Message: "no"},
		"no mount":        core.ErrNoMount,
		"an unknown kind": errors.New("failed on something"),
	}
	for _, r := range requests {
		for name, failure := range failures {
			check(t, fmt.Sprintf("%s %s, %s", r.method, r.target, name), &recorder{err: failure}, r.method, r.target, r.body, r.headers)
		}
		check(t, r.method+" "+r.target+", a panic", &panicker{}, r.method, r.target, r.body, r.headers)
	}
}

func check(t *testing.T, name string, n Node, method, target, body string, headers []string) {
	t.Helper()
	var log bytes.Buffer
	r, w := newRequest("GET", target, body, headers...)
	r.Method = method
	Handler(Options{Node: n, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}).ServeHTTP(w, r)
	if w.Code < 400 {
		t.Errorf("%s: %d", name, w.Code)
	}
	if strings.Contains(w.Body.String(), canary) || strings.Contains(log.String(), canary) {
		t.Errorf("%s: answered %s, logged %s", name, w.Body, &log)
	}
	for header, values := range w.Header() {
		if strings.Contains(strings.Join(values, " "), canary) {
			t.Errorf("%s: the header %s repeats what was sent", name, header)
		}
	}
}

// panicker panics with what it was asked.
type panicker struct{ recorder }

func (panicker) Serve(_ context.Context, c core.Caller, q core.Request) (*core.Reply, error) {
	panic(fmt.Sprint(q.Path, string(q.Raw), c.Reason, canary))
}
func (panicker) Status(context.Context) (*conclavev1.GetStatusResponse, error) { panic(canary) }
func (panicker) Init(context.Context, *conclavev1.InitRequest) (*conclavev1.InitResponse, error) {
	panic(canary)
}
func (panicker) Unseal(context.Context, *conclavev1.UnsealRequest) (*conclavev1.UnsealResponse, error) {
	panic(canary)
}
func (panicker) Gauges(context.Context, core.Caller) ([]Gauge, error) { panic(canary) }

// A body of MaxBody is taken, one byte more is not, said beforehand or not.
func TestBodyLimit(t *testing.T) {
	fill := func(size int) string {
		const frame = `{"a":""}`
		return `{"a":"` + strings.Repeat("x", size-len(frame)) + `"}`
	}
	for _, c := range []struct {
		size, code int
	}{{MaxBody, 204}, {MaxBody + 1, 413}} {
		for _, length := range []int64{int64(c.size), -1} {
			n := &recorder{}
			r, w := newRequest("PUT", "/v1/a", fill(c.size))
			r.ContentLength = length
			newHandler(n).ServeHTTP(w, r)
			if w.Code != c.code || (n.asked != nil) != (c.code == 204) {
				t.Errorf("%d bytes, length %d: %d", c.size, length, w.Code)
			}
		}
	}
}

// The bodies that are held at once are bounded, and what was held is given back.
// Small ones find room all the same.
func TestBodiesTogether(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	n := &slowOnce{slow: slow{recorder{}, entered, leave}}
	h := Handler(Options{Node: n, Logger: slog.New(slog.DiscardHandler), MaxBodies: 1 << 20})
	put := func(h http.Handler, size int) *httptest.ResponseRecorder {
		r, w := newRequest("PUT", "/v1/a", `{"a":"`+strings.Repeat("x", size)+`"}`)
		h.ServeHTTP(w, r)
		return w
	}
	var group sync.WaitGroup
	group.Go(func() { put(h, 800<<10) })
	<-entered
	w := put(h, 800<<10)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a second large body: %d %v", w.Code, w.Header())
	}
	if w = put(h, 10<<10); w.Code != 204 {
		t.Errorf("a small body: %d", w.Code)
	}
	close(leave)
	group.Wait()
	if now := h.(*handler).bodies.held.Load(); now != 0 {
		t.Errorf("%d bytes were not given back", now)
	}
	if w = put(h, 800<<10); w.Code != 204 {
		t.Errorf("a large body afterwards: %d", w.Code)
	}
}

// slowOnce answers all but its first request at once.
type slowOnce struct {
	slow
	later atomic.Bool
}

func (n *slowOnce) Serve(ctx context.Context, c core.Caller, q core.Request) (*core.Reply, error) {
	if n.later.CompareAndSwap(false, true) {
		return n.slow.Serve(ctx, c, q)
	}
	return &core.Reply{}, nil
}

// wire is a server that is reached over a pipe, in the bubble of a test.
type wire struct{ conns chan net.Conn }

func (l wire) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (l wire) Close() error   { return nil }
func (l wire) Addr() net.Addr { return &net.TCPAddr{} }

// Who sends a request a byte at a time, or nothing at all, is let go.
func TestSlowClients(t *testing.T) {
	for name, c := range map[string]struct {
		send  string // and then a byte a second
		drip  string
		limit time.Duration
	}{
		"headers":  {"GET /v1/a HTTP/1.1\r\nHost: x\r\n", "X-A: a\r\n", 11 * time.Second},
		"a body":   {"PUT /v1/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{", " ", 2*time.Minute + time.Second},
		"chunks":   {"PUT /v1/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", 2*time.Minute + time.Second},
		"idleness": {"", "", 11 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := wire{make(chan net.Conn, 1)}
			s := &http.Server{Handler: newHandler(&recorder{}), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
			Harden(s)
			done := make(chan struct{})
			go func() {
				defer close(done)
				if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			}()
			client, server := net.Pipe()
			l.conns <- server
			began := time.Now()
			var group sync.WaitGroup
			group.Go(func() {
				if _, err := client.Write([]byte(c.send)); err != nil {
					return
				}
				for c.drip != "" {
					time.Sleep(time.Second)
					if _, err := client.Write([]byte(c.drip)); err != nil {
						return
					}
				}
			})
			if _, err := io.Copy(io.Discard, bufio.NewReader(client)); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > c.limit {
				t.Errorf("%s: let go after %v, want %v", name, took, c.limit)
			}
			close(l.conns)
			closed := errors.Join(client.Close(), s.Close())
			<-done
			if group.Wait(); closed != nil {
				t.Error(closed)
			}
		})
	}
}

// Headers without end are cut off, and what looks like two requests in one is none.
func TestHeaderLimits(t *testing.T) {
	server := newServer(t, &recorder{})
	for name, c := range map[string]struct {
		text string
		code int
	}{
		"a long header":             {"GET /v1/a HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 80<<10) + "\r\n\r\n", 431},
		"a long path":               {"GET /v1/" + strings.Repeat("a", 5000) + " HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		"a newline in a header":     {"GET /v1/a HTTP/1.1\r\nHost: x\r\nX-Vault-Token: a\nX-B: b\x00\r\n\r\n", 400},
		"two lengths":               {"PUT /v1/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", 400},
		"a length and chunks":       {"PUT /v1/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: gzip, chunked\r\n\r\n{}", 501},
		"no host":                   {"GET /v1/a HTTP/1.1\r\n\r\n", 400},
		"a space before the colon":  {"GET /v1/a HTTP/1.1\r\nHost: x\r\nX-Vault-Token : t\r\n\r\n", 400},
		"a body that ends early":    {"PUT /v1/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{", 400},
		"chunks that are none":      {"PUT /v1/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n", 400},
		"an absolute path":          {"GET http://other/v1/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 204},
		"escaped CR and LF in path": {"GET /v1/a%0d%0aX-Vault-Token:%20t HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	} {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(c.text)); err != nil {
			t.Fatal(err)
		}
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || r.StatusCode != c.code {
			t.Errorf("%s: %v %v, want %d", name, r, err, c.code)
		}
		if err == nil {
			r.Body.Close()
		}
		conn.Close()
	}
}

// One path is one name: what cleanPath lets through, no two spellings have.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/v1/a/b", "/v1/a//b", "/v1/a/%2e%2e/b", "/v1/a/..;/b", "/v1/a%2fb", "/v1/%00", "/v1/a/.", "/v1//", "/V1/a", "/v1/a\\..\\b", "/v1/%ff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		r, err := http.NewRequest("GET", "http://x"+target, nil)
		if err != nil {
			return
		}
		path, err := cleanPath(r.URL)
		if err != nil {
			return
		}
		if path == "" || len(path) > maxPath || strings.HasPrefix(path, "/") || strings.Contains(path, "//") {
			t.Errorf("%q is let through as %q", target, path)
		}
		for segment := range strings.SplitSeq(path, "/") {
			if segment == "." || segment == ".." {
				t.Errorf("%q is let through as %q", target, path)
			}
		}
		again, err := http.NewRequest("GET", "http://x", nil)
		if err != nil {
			t.Fatal(err)
		}
		again.URL.Path, again.URL.RawPath = "/v1/"+path, ""
		if same, err := cleanPath(again.URL); err != nil || same != path {
			t.Errorf("%q becomes %q and then %q, %v", target, path, same, err)
		}
	})
}

// No body makes the decoder panic, recurse without end or take what is no object.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, `{"a":{"b":[1,2,{"c":null}]}}`, `[]`, `null`, ` `, `{"a":1}{"b":2}`, `{"a":"\ud800"}`, `{"a":1e999}`,
		strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70), "\xff\xfe", `{"a":1,"a":2}`, "a=1&b=2"} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, text string, form bool) {
		r := httptest.NewRequest("PUT", "/v1/a", strings.NewReader(text))
		if form {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		raw, body, err := readBody(r)
		if err != nil {
			var own *statusError
			if !errors.As(err, &own) || own.code != http.StatusBadRequest {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		again, err := engine.ParseBody(raw)
		if err != nil || len(again) != len(body) {
			t.Errorf("%q is read as %q and then as %v, %v", text, raw, again, err)
		}
	})
}
