// Package http serves the API under /v1/ in the shape that clients of Vault and
// OpenBao know: paths, envelopes, status codes and headers. It spells and knows
// nothing else: what a request means, core and its engines decide.
//
// Handler is the whole of it: request.go reads a request, answer.go and failure.go
// write what came of it, node.go has the few endpoints that concern this node and
// not the ledger.
package http

import (
	"context"
	"log/slog"
	"net/http"
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
}

// MaxBody bounds the body of a request, in bytes.
const MaxBody = 32 << 20

// Options is what a handler is made of.
type Options struct {
	Node   Node
	Logger *slog.Logger
	// Version is what clients are told, who compare it with Vault's.
	Version string
	// MaxInFlight bounds the requests at once; what comes on top is refused at
	// once, before anything of it is read. 0: 4096.
	MaxInFlight int
}

// Handler serves a node.
func Handler(o Options) http.Handler {
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 4096
	}
	return &handler{node: o.Node, version: o.Version, logger: o.Logger, room: int64(o.MaxInFlight)}
}

type handler struct {
	node    Node
	version string
	logger  *slog.Logger

	room   int64 // how many requests there may be at once
	within atomic.Int64
}

// Harden sets the limits of s that keep slow and greedy clients off.
func Harden(s *http.Server) {
	s.ReadHeaderTimeout = 10 * time.Second
	s.ReadTimeout = 2 * time.Minute
	s.WriteTimeout = 3 * time.Minute
	s.IdleTimeout = 5 * time.Minute
	s.MaxHeaderBytes = 64 << 10
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	defer func() {
		if p := recover(); p != nil {
			// What panicked may hold a secret; the type is enough to begin with.
			h.logger.Error("a request made the server panic", "type", typeName(p))
			fail(w, http.StatusInternalServerError, "internal error")
		}
	}()
	defer h.within.Add(-1)
	if h.within.Add(1) > h.room {
		header.Set("Retry-After", "1")
		fail(w, http.StatusServiceUnavailable, "this node has more to do than it can")
		return
	}
	path, err := cleanPath(r.URL)
	if err != nil {
		h.refuse(w, err)
		return
	}
	if serve := h.ofNode(r.Method, path); serve != nil {
		serve(w, r)
		return
	}
	q, c, err := readRequest(r, path)
	if err != nil {
		h.refuse(w, err)
		return
	}
	reply, err := h.node.Serve(r.Context(), c, *q)
	if err != nil {
		h.refuse(w, err)
		return
	}
	answer(w, q, reply)
}
