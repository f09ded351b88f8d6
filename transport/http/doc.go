// Package http serves the API under /v1/ in the shape that clients of Vault and
// OpenBao know: paths, envelopes, status codes and headers. It spells and knows
// nothing else: what a request means, core and its engines decide.
//
// Handler is the whole of it: request.go reads a request, answer.go and failure.go
// write what came of it, index.go spells the index of an answer, node.go and
// metrics.go have the few endpoints that concern this node and not the ledger.
package http

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/conclave-secrets/conclave/core"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Node is the node behind the API.
type Node interface {
	// Serve answers a request to the ledger.
	Serve(ctx context.Context, c core.Caller, q core.Request) (*core.Reply, error)
	Status(ctx context.Context) (*conclavev1.GetStatusResponse, error)
	Init(ctx context.Context, r *conclavev1.InitRequest) (*conclavev1.InitResponse, error)
	Unseal(ctx context.Context, r *conclavev1.UnsealRequest) (*conclavev1.UnsealResponse, error)
	Seal(ctx context.Context, c core.Caller) error
	Members(ctx context.Context, c core.Caller) (*conclavev1.MembersResponse, error)
	TransferLeadership(ctx context.Context, c core.Caller, id string) (leaderID string, err error)
	// ClusterID names the cluster that the node belongs to; "": none yet.
	ClusterID() string
	// Vouch returns a keyed hash of text that every unsealed node of the cluster
	// makes alike, and nobody else can.
	Vouch(text string) ([]byte, error)
	// Host describes the machine, to who may read sys/host-info; id names the
	// request in the audit log.
	Host(ctx context.Context, c core.Caller) (host *Host, id string, err error)
	// Gauges are the node's numbers, for who may read sys/metrics.
	Gauges(ctx context.Context, c core.Caller) ([]Gauge, error)
}

// Options is what a handler is made of.
type Options struct {
	Node   Node
	Logger *slog.Logger
	// Version is what clients are told, who compare it with Vault's.
	Version string
	// MaxInFlight bounds the requests at once; what comes on top is refused at
	// once, before anything of it is read. 0: 4096.
	MaxInFlight int
	// MaxBodies bounds the bytes of all bodies that are held at once. 0: 256 MiB.
	MaxBodies int64
}

// Handler serves a node.
func Handler(o Options) http.Handler {
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 4096
	}
	if o.MaxBodies == 0 {
		o.MaxBodies = 256 << 20
	}
	h := &handler{node: o.Node, version: o.Version, logger: o.Logger, room: int64(o.MaxInFlight), bodies: shared{most: o.MaxBodies}}
	h.endpoints = h.ofNode()
	return h
}

type handler struct {
	node    Node
	version string
	logger  *slog.Logger

	endpoints map[string]map[string]http.HandlerFunc // of the node; by path and method

	room   int64 // how many requests there may be at once
	within atomic.Int64
	bodies shared
	served tally
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	noted := &noted{ResponseWriter: w, code: http.StatusOK}
	began := time.Now()
	defer func() { h.served.count(r.Method, noted.code, time.Since(began)) }()
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	defer func() {
		if p := recover(); p != nil {
			// What panicked may hold a secret; the type is enough to begin with.
			h.logger.Error("a request made the server panic", "type", typeName(p))
			fail(noted, http.StatusInternalServerError, "internal error")
		}
	}()
	defer h.within.Add(-1)
	if h.within.Add(1) > h.room {
		h.refuse(noted, errBusy)
		return
	}
	held := &held{ReadCloser: r.Body, of: &h.bodies}
	defer held.release()
	r.Body = held
	h.serve(noted, r)
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	path, err := cleanPath(r.URL)
	if err != nil {
		h.refuse(w, err)
		return
	}
	if methods := h.endpoints[strings.TrimSuffix(path, "/")]; methods != nil {
		h.serveNode(w, r, methods)
		return
	}
	q, c, err := h.readRequest(r, path)
	if err != nil {
		h.refuse(w, err)
		return
	}
	reply, err := h.node.Serve(r.Context(), c, *q)
	if err != nil {
		h.refuse(w, err)
		return
	}
	h.answer(w, q, reply)
}
