package http

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"

	"github.com/conclave-secrets/conclave/core"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// The marks are what the clients of Vault take apart, compare and merge.
func TestMarksAsClientsReadThem(t *testing.T) {
	state, err := vault.ParseReplicationState(mark(42), []byte("a key"))
	if err != nil || state.ClusterID != (&recorder{}).ClusterID() || state.LocalIndex != 42 || state.ReplicatedIndex != 42 {
		t.Fatalf("a client reads %+v, %v", state, err)
	}
	if merged := vault.MergeReplicationStates([]string{mark(42)}, mark(43)); len(merged) != 1 || merged[0] != mark(43) {
		t.Errorf("42 and 43 merge to %q", merged)
	}
	if merged := vault.MergeReplicationStates([]string{mark(43)}, mark(42)); len(merged) != 1 || merged[0] != mark(43) {
		t.Errorf("43 and 42 merge to %q", merged)
	}
}

// The highest of all marks that are sent counts, however they are sent. What this
// cluster has not made is refused.
func TestMarksAreHonoured(t *testing.T) {
	altered := func(change func(string) string) string {
		raw, err := base64.StdEncoding.DecodeString(mark(7))
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString([]byte(change(string(raw))))
	}
	for name, c := range map[string]struct {
		marks []string
		index uint64 // 0: any view that is current
		code  int
	}{
		"none":                  {nil, 0, 204},
		"an empty one":          {[]string{""}, 0, 204},
		"one":                   {[]string{mark(7)}, 7, 204},
		"several":               {[]string{mark(7), mark(9), mark(8)}, 9, 204},
		"several in one":        {[]string{mark(7) + ", " + mark(9) + ",", mark(8)}, 9, 204},
		"a higher index":        {[]string{altered(func(s string) string { return strings.Replace(s, ":7:7:", ":8:8:", 1) })}, 0, 400},
		"another cluster":       {[]string{altered(func(s string) string { return strings.Replace(s, "v1:00", "v1:ff", 1) })}, 0, 400},
		"no hash":               {[]string{altered(func(s string) string { return s[:strings.LastIndexByte(s, ':')+1] })}, 0, 400},
		"an old form":           {[]string{base64.StdEncoding.EncodeToString([]byte("v1:7"))}, 0, 400},
		"garbage beside a good": {[]string{mark(7), "garbage"}, 0, 400},
		"no base64":             {[]string{"%%%"}, 0, 400},
	} {
		n := &recorder{}
		r, w := newRequest("GET", "/v1/a", "")
		r.Header["X-Vault-Index"] = c.marks
		newHandler(n).ServeHTTP(w, r)
		if w.Code != c.code || (n.asked == nil) != (c.code == 400) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
			continue
		}
		if n.asked != nil && n.asked.Read.GetAtLeastIndex() != c.index {
			t.Errorf("%s: asked %v, want index %d", name, n.asked.Read, c.index)
		}
	}
	for _, header := range []string{"X-Vault-Forward: active-node", "X-Vault-Inconsistent: forward-active-node"} {
		name, value, _ := strings.Cut(header, ": ")
		n := &recorder{}
		send(n, "GET", "/v1/a", "", "X-Vault-Index", mark(7), name, value)
		if n.asked == nil || n.asked.Read.GetConsistency() != conclavev1.Consistency_CONSISTENCY_UNSPECIFIED {
			t.Errorf("%s: asked %+v", header, n.asked)
		}
	}
	n := &recorder{}
	r := httptest.NewRequest("GET", "/v1/a", nil)
	r.Header = http.Header{"X-Vault-Index": {mark(7)}, "X-Vault-Inconsistent": {"await-state", "forward-active-node"}}
	newHandler(n).ServeHTTP(httptest.NewRecorder(), r)
	if n.asked == nil || n.asked.Read.GetConsistency() != conclavev1.Consistency_CONSISTENCY_UNSPECIFIED {
		t.Errorf("waiting before it is forwarded: asked %+v", n.asked)
	}
}

// behind is a node that has an index only when it is asked once more.
type behind struct {
	recorder
	asked int
}

func (n *behind) Serve(context.Context, core.Caller, core.Request) (*core.Reply, error) {
	if n.asked++; n.asked == 1 {
		return nil, &core.Error{Reason: conclavev1.Reason_REASON_INDEX_NOT_REACHED, Message: "behind"}
	}
	r := &core.Reply{Index: 9}
	r.Data = map[string]string{"k": "v"}
	return r, nil
}

// A client asks again where an index is not reached yet.
func TestClientsAskAgain(t *testing.T) {
	n := &behind{}
	c := newClient(t, n, 1)
	s, err := c.Logical().Read("secret/a")
	if err != nil || n.asked != 2 || s.Data["k"] != "v" {
		t.Errorf("asked %d times: %v, %v", n.asked, s, err)
	}
}

func newClient(t *testing.T, n Node, retries int) *vault.Client {
	t.Helper()
	config := vault.DefaultConfig()
	config.Address, config.ReadYourWrites, config.MaxRetries = newServer(t, n).URL, true, retries
	config.MinRetryWait, config.MaxRetryWait = time.Millisecond, time.Millisecond
	config.HttpClient.Transport = &http.Transport{}
	c, err := vault.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A client that reads its own writes, as its project wrote it: it remembers the
// marks of its answers and sends them along.
func TestReadYourWrites(t *testing.T) {
	n := &recorder{}
	c := newClient(t, n, 0)
	for _, index := range []uint64{5, 9, 7} {
		n.reply = replyAt(index)
		if _, err := c.Logical().Write("secret/a", map[string]any{"k": "v"}); err != nil {
			t.Fatal(err)
		}
	}
	var last string
	c = c.WithResponseCallbacks(vault.RecordState(&last))
	if _, err := c.Logical().Read("secret/a"); err != nil {
		t.Fatal(err)
	}
	if got := n.asked.Read.GetAtLeastIndex(); got != 9 || last != mark(7) {
		t.Errorf("the client demands index %d and recorded %q", got, last)
	}
	required := c.WithRequestCallbacks(vault.RequireState(mark(11), mark(10)))
	if _, err := required.Logical().Read("secret/a"); err != nil || n.asked.Read.GetAtLeastIndex() != 11 {
		t.Errorf("asked %v, %v", n.asked.Read, err)
	}
}
