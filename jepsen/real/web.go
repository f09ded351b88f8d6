package real

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-secrets/conclave/internal/redact"
	"github.com/conclave-secrets/conclave/jepsen/history"
	"github.com/conclave-secrets/conclave/jepsen/workload"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// webClient speaks HTTP from the clients' host and repeats nothing.
func (r *run) webClient() (*http.Client, error) {
	pem, err := os.ReadFile(r.cluster.CAFile())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", r.cluster.CAFile())
	}
	dial := r.dialFrom(r.clientHost())
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13},
		TLSHandshakeTimeout: 2 * time.Second,
		DialContext:         func(ctx context.Context, _, address string) (net.Conn, error) { return dial(ctx, address) },
	}}, nil
}

// speaksHTTP tells whether a request for a secret can be made in Vault's API with an
// answer that says as much as the other: that one does not tell a deletion from none. It
// has no idempotency keys, and indexes that a client may ask for only as it got them.
func speaksHTTP(o *history.Op) bool {
	return o.Kind == history.Put || o.Kind == history.Get && o.Level != conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX
}

// callWeb sends o, for a secret, to a node over HTTP and puts what comes back into a.
func (w *worker) callWeb(ctx context.Context, o *history.Op, node int, a *workload.Answer) error {
	q, header := workload.Request{Path: "secret/data/" + o.Key}, http.Header{}
	if o.Kind == history.Put {
		q.Body = map[string]any{"data": map[string]string{"value": o.Value}}
		if o.CAS != nil {
			q.Body["options"] = map[string]uint64{"cas": *o.CAS}
		}
	} else if o.Version > 0 {
		q.Path += "?version=" + strconv.FormatUint(o.Version, 10)
	}
	switch o.Level {
	case conclavev1.Consistency_CONSISTENCY_LOCAL:
		header.Set("X-Conclave-Consistency", "local")
	case conclavev1.Consistency_CONSISTENCY_BOUNDED:
		header.Set("X-Conclave-Consistency", o.MaxAge.String())
	}
	got, err := w.exchange(ctx, node, q, header)
	if err != nil {
		return err
	}
	return got.secret(o, a)
}

// serveWeb sends a request by its path to a node over HTTP.
func (w *worker) serveWeb(ctx context.Context, node int, q workload.Request) (*workload.Reply, error) {
	header := http.Header{}
	if q.Wrap > 0 {
		header.Set("X-Vault-Wrap-TTL", q.Wrap.String())
	}
	got, err := w.exchange(ctx, node, q, header)
	if err != nil {
		return nil, err
	}
	return got.reply()
}

// webAnswer is what came back over HTTP.
type webAnswer struct {
	status int
	body   []byte
	mark   string // of the index
}

// exchange makes the request, with the headers of header. That it got no answer is a
// *workload.Failure.
func (w *worker) exchange(ctx context.Context, node int, q workload.Request, header http.Header) (webAnswer, error) {
	method, sent := http.MethodGet, []byte(nil)
	if q.Body != nil {
		var err error
		if sent, err = json.Marshal(q.Body); err != nil {
			return webAnswer{}, err
		}
		method = http.MethodPost
	}
	// The transport must not send it a second time, as it does with a body of which it
	// knows that it is none or can be read again.
	body := io.NopCloser(bytes.NewReader(sent))
	r, err := http.NewRequestWithContext(ctx, method, "https://"+w.run.node(node).HTTP+"/v1/"+q.Path, body)
	if err != nil {
		return webAnswer{}, err
	}
	r.ContentLength = int64(len(sent))
	token := w.run.cluster.RootToken.Reveal()
	if q.Token.Len() > 0 {
		token = string(q.Token.Expose())
	}
	r.Header = header
	r.Header.Set("X-Vault-Token", token)
	w.run.overHTTP.Add(1)
	resp, err := w.web.Do(r)
	if err != nil {
		return webAnswer{}, brokenOff(err)
	}
	got := webAnswer{status: resp.StatusCode, mark: resp.Header.Get("X-Vault-Index")}
	got.body, err = io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return webAnswer{}, brokenOff(err)
	}
	return got, nil
}

// brokenOff is the failure of a request that got no answer.
func brokenOff(err error) error { return &workload.Failure{Unknown: !neverSent(err), Cause: err} }

// neverSent tells whether there was no connection to send anything on.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// failure is how a request failed, for which Vault has fewer words than the API. Nil:
// it did not, or was not found.
func (got webAnswer) failure() error {
	switch got.status {
	case http.StatusOK, http.StatusNoContent, http.StatusNotFound:
		return nil
	case http.StatusServiceUnavailable: // only this says that nothing was done
		return &workload.Failure{Cause: errors.New("unavailable")}
	case http.StatusBadRequest:
		return &workload.Failure{Reason: conclavev1.Reason_REASON_INVALID, Cause: got}
	case http.StatusForbidden:
		return &workload.Failure{Reason: conclavev1.Reason_REASON_DENIED, Cause: got}
	case http.StatusInternalServerError:
		f := &workload.Failure{Unknown: true, Cause: got}
		if bytes.Contains(got.body, []byte(internalError)) {
			f.Reason = conclavev1.Reason_REASON_INTERNAL
		}
		return f
	}
	return got
}

// internalError tells an internal error from a conflict, and from an outcome that nobody
// knows, which have the same status.
const internalError = "internal error"

// Error makes an answer the cause of a failure.
func (got webAnswer) Error() string { return fmt.Sprintf("status %d: %.200s", got.status, got.body) }

// mismatch is in the answer to a failed check-and-set, which does not tell the current
// version.
const mismatch = "check-and-set parameter did not match"

// secret reads an answer about a secret in Vault's words.
func (got webAnswer) secret(o *history.Op, a *workload.Answer) error {
	if got.status == http.StatusBadRequest && bytes.Contains(got.body, []byte(mismatch)) {
		return &workload.Failure{Reason: conclavev1.Reason_REASON_CAS_MISMATCH, Cause: got}
	}
	if err := got.failure(); err != nil {
		return err
	}
	var said struct {
		Data struct {
			Version  uint64            `json:"version"` // of a write
			Data     map[string]string `json:"data"`
			Metadata struct {
				Version   uint64 `json:"version"`
				Destroyed bool   `json:"destroyed"`
			} `json:"metadata"`
		} `json:"data"`
	}
	if err := json.Unmarshal(got.body, &said); err != nil {
		return fmt.Errorf("an answer that is not what it should be: %w: %w", err, got)
	}
	meta := said.Data.Metadata
	switch {
	case got.status == http.StatusNotFound && o.Kind != history.Get:
		return got
	case got.status == http.StatusNotFound && meta.Destroyed:
		return &workload.Failure{Reason: conclavev1.Reason_REASON_VERSION_DESTROYED, Cause: got}
	case got.status == http.StatusNotFound && meta.Version > 0:
		return &workload.Failure{Reason: conclavev1.Reason_REASON_VERSION_DELETED, Cause: got}
	case got.status == http.StatusNotFound:
		return &workload.Failure{Reason: conclavev1.Reason_REASON_NOT_FOUND, Cause: got}
	}
	a.Number, a.Read = max(said.Data.Version, meta.Version), said.Data.Data["value"]
	var err error
	a.Index, err = indexOf(got.mark)
	return err
}

// reply reads an answer to a request around access.
func (got webAnswer) reply() (*workload.Reply, error) {
	if err := got.failure(); err != nil {
		return nil, err
	}
	if got.status == http.StatusNotFound {
		return nil, &workload.Failure{Reason: conclavev1.Reason_REASON_NOT_FOUND, Cause: got}
	}
	var said struct {
		Auth struct {
			ClientToken string `json:"client_token"`
		} `json:"auth"`
		Wrap struct {
			Token string `json:"token"`
		} `json:"wrap_info"`
		Data struct {
			Text string `json:"text"`
		} `json:"data"`
	}
	if len(got.body) > 0 {
		if err := json.Unmarshal(got.body, &said); err != nil {
			return nil, fmt.Errorf("an answer of %d bytes is not what it should be: %w", len(got.body), err)
		}
	}
	index, err := indexOf(got.mark)
	return &workload.Reply{Index: index, Token: redact.New([]byte(cmp.Or(said.Auth.ClientToken, said.Wrap.Token))), Text: said.Data.Text}, err
}

// indexOf reads the index out of the mark that comes with an answer.
func indexOf(mark string) (uint64, error) {
	if mark == "" { // the node was sealed meanwhile
		return 0, nil
	}
	raw, err := base64.StdEncoding.DecodeString(mark)
	if err != nil {
		return 0, fmt.Errorf("reading an index: %w", err)
	}
	parts := strings.Split(string(raw), ":")
	if len(parts) != 5 {
		return 0, fmt.Errorf("reading an index: %d parts", len(parts))
	}
	return strconv.ParseUint(parts[2], 10, 64)
}
