package real

import (
	"bytes"
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

	"github.com/conclave-secrets/conclave/jepsen/history"
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

// speaksHTTP tells whether a request can be made in Vault's API with an answer that
// says as much as the other: that one does not tell a deletion from none, nor the
// current version of a failed check-and-set, and has linearizable reads only.
func speaksHTTP(o *history.Op) bool {
	return o.Kind == history.Put && o.CAS == nil || o.Kind == history.Get && o.Linearizable()
}

// attemptHTTP sends o to a node over HTTP.
func (w *worker) attemptHTTP(o *history.Op, node int) *answer {
	a := &answer{node: node % len(w.nodes), outcome: history.NotDone}
	o.Sent++
	w.run.overHTTP.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), w.patience)
	defer cancel()
	before := w.run.lives[a.node].Load()
	status, body, mark, err := w.exchange(ctx, o, a.node)
	a.life = w.run.lifeOf(a.node, before)
	if err == nil {
		err = a.readWeb(o, status, body, mark)
	}
	if err != nil {
		w.run.report("over HTTP: %v: %v", o, err)
	}
	if o.Kind.Writes() && a.outcome == history.NotDone && status != http.StatusServiceUnavailable {
		a.outcome = history.Unknown // only "unavailable" says that nothing was done
	}
	return a
}

// exchange makes the request. Status 0: it broke off on the way.
func (w *worker) exchange(ctx context.Context, o *history.Op, node int) (status int, body []byte, mark string, err error) {
	url := "https://" + w.run.node(node).HTTP + "/v1/secret/data/" + o.Key
	method, sent := http.MethodGet, []byte(nil)
	if o.Kind == history.Put {
		method = http.MethodPost
		if sent, err = json.Marshal(map[string]any{"data": map[string]string{"value": o.Value}}); err != nil {
			return 0, nil, "", err
		}
	} else if o.Version > 0 {
		url += "?version=" + strconv.FormatUint(o.Version, 10)
	}
	q, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(sent))
	if err != nil {
		return 0, nil, "", err
	}
	q.GetBody = nil // the transport must not send it a second time
	q.Header.Set("X-Vault-Token", w.run.cluster.RootToken.Reveal())
	resp, err := w.web.Do(q)
	if err != nil {
		return 0, nil, "", nil // broken off, in whatever way
	}
	body, err = io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err != nil || cerr != nil {
		return 0, nil, "", nil // the same
	}
	return resp.StatusCode, body, resp.Header.Get("X-Vault-Index"), nil
}

// webAnswer is what Vault's API says about a version.
type webAnswer struct {
	Data struct {
		Version  uint64            `json:"version"` // of a write
		Data     map[string]string `json:"data"`
		Metadata struct {
			Version      uint64 `json:"version"`
			DeletionTime string `json:"deletion_time"`
			Destroyed    bool   `json:"destroyed"`
		} `json:"metadata"`
	} `json:"data"`
}

// readWeb reads an answer in Vault's words.
func (a *answer) readWeb(o *history.Op, status int, body []byte, mark string) error {
	var said webAnswer
	switch status {
	case http.StatusOK, http.StatusNotFound:
		if err := json.Unmarshal(body, &said); err != nil {
			return fmt.Errorf("answer %d is not what it should be: %w", status, err)
		}
	case 0, http.StatusServiceUnavailable, http.StatusInternalServerError:
		return nil // not done, or nobody knows
	default:
		return fmt.Errorf("an answer that this request cannot have: %d", status)
	}
	meta := said.Data.Metadata
	switch {
	case status == http.StatusNotFound && o.Kind == history.Get:
		a.outcome = history.Refused
		a.reason = conclavev1.Reason_REASON_NOT_FOUND
		if meta.Destroyed {
			a.reason = conclavev1.Reason_REASON_VERSION_DESTROYED
		} else if meta.Version > 0 {
			a.reason = conclavev1.Reason_REASON_VERSION_DELETED
		}
		return nil
	case status == http.StatusNotFound:
		return errors.New("a write was not found")
	}
	a.outcome = history.Done
	a.number, a.read = max(said.Data.Version, meta.Version), said.Data.Data["value"]
	var err error
	a.index, err = indexOf(mark)
	return err
}

// indexOf reads the index out of the mark that comes with an answer.
func indexOf(mark string) (uint64, error) {
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
