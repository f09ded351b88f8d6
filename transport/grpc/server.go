// Package grpc serves the public API, conclave.v1, over gRPC: it reads the
// caller's token, hands each request to core or to the node's operations, and
// spells errors as statuses. It decides nothing.
//
// Start at New; services.go is the list of calls, paths.go those by verb and path,
// errors.go the one table from reasons to codes.
package grpc

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"

	"github.com/conclave-secrets/conclave/core"
	"github.com/conclave-secrets/conclave/internal/redact"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// Options is what a Server is made of.
type Options struct {
	TLS    *tls.Config // required
	Node   Node        // required
	Logger *slog.Logger
	// MaxMessageBytes bounds one request. 0: 8 MiB.
	MaxMessageBytes int
	// MaxInFlight bounds the calls at once on all connections; what comes on top
	// is refused at once. 0: 4096.
	MaxInFlight int
	// MaxConcurrentStreams bounds the calls at once on one connection. 0: 1024.
	MaxConcurrentStreams uint32
}

// streamWorkers is how many goroutines answer calls one after the other; calls
// on top of these get one of their own.
const streamWorkers = 128

// Server is the public API on one listener.
type Server struct {
	grpc   *grpc.Server
	health *health.Server
}

// New returns a server that is ready to Serve.
func New(o Options) *Server {
	if o.MaxMessageBytes == 0 {
		o.MaxMessageBytes = 8 << 20
	}
	if o.MaxConcurrentStreams == 0 {
		o.MaxConcurrentStreams = 1024
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 4096
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(o.TLS)),
		grpc.MaxRecvMsgSize(o.MaxMessageBytes),
		grpc.MaxConcurrentStreams(o.MaxConcurrentStreams),
		grpc.NumStreamWorkers(streamWorkers), // their stacks have grown already
		grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(guardCall(o.Logger), limitCalls(int64(o.MaxInFlight))),
	)
	s := &Server{grpc: g, health: health.NewServer()}
	conclavev1.RegisterSecretsServer(g, secrets{node: o.Node})
	conclavev1.RegisterLeasesServer(g, leases{node: o.Node})
	conclavev1.RegisterPathsServer(g, paths{node: o.Node})
	conclavev1.RegisterOperatorServer(g, operator{node: o.Node})
	conclavev1.RegisterStatusServer(g, status{node: o.Node})
	healthpb.RegisterHealthServer(g, s.health)
	reflection.Register(g)
	s.SetServing(false)
	return s
}

// SetServing tells health checks whether this node answers requests for secrets.
func (s *Server) SetServing(serving bool) {
	state := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		state = healthpb.HealthCheckResponse_SERVING
	}
	for _, name := range []string{"", conclavev1.Secrets_ServiceDesc.ServiceName, conclavev1.Leases_ServiceDesc.ServiceName, conclavev1.Paths_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(name, state)
	}
}

// Serve answers on l until Close. It returns nil after Close.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Close stops taking calls, lets those in flight finish until ctx ends, and
// then cuts them off.
func (s *Server) Close(ctx context.Context) {
	s.health.Shutdown()
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}

// guardCall turns errors into statuses, and a panic into an internal error: one
// request's bug must not take the node's other requests with it. What the
// panic said stays here, for it could hold a secret; the stack is logged.
func guardCall(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
		defer func() {
			if r := recover(); r != nil {
				log.Error("a call panicked", "method", info.FullMethod, "stack", string(debug.Stack()))
				resp, err = nil, spell(&core.Error{Reason: conclavev1.Reason_REASON_INTERNAL, Outcome: conclavev1.Outcome_OUTCOME_UNKNOWN,
					Message: "internal error; the node's log tells more"})
			}
		}()
		ctx, cancel := answerInTime(ctx)
		defer cancel()
		resp, err = handle(ctx, req)
		if err != nil {
			logFailure(ctx, log, info.FullMethod, err)
			return nil, spell(err)
		}
		return resp, nil
	}
}

// answerTime is what is kept of a caller's time for the answer to reach him.
const answerTime = 250 * time.Millisecond

// answerInTime ends a call a little before its caller gives up, so that he hears
// what was the matter instead of nothing.
func answerInTime(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(answerTime, time.Until(deadline)/10)))
}

// limitCalls refuses what would only wait: better a clear answer now, with the
// time to come back, than a time-out later.
func limitCalls(limit int64) grpc.UnaryServerInterceptor {
	var calls atomic.Int64
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		defer calls.Add(-1)
		if calls.Add(1) > limit {
			return nil, &core.Error{Reason: conclavev1.Reason_REASON_OVERLOADED, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE,
				Message: "this node has more calls under way than it takes", Hint: "try again after the stated time, or ask another node",
				RetryAfter: 100 * time.Millisecond}
		}
		return handle(ctx, req)
	}
}

// caller reads the token and the reason from the metadata.
func caller(ctx context.Context) core.Caller {
	var c core.Caller
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		if token, ok := strings.CutPrefix(v, "Bearer "); ok {
			c.Token = redact.New([]byte(token))
			break
		}
	}
	c.Reason = reasonOf(md)
	if p, ok := peer.FromContext(ctx); ok {
		if at, err := netip.ParseAddrPort(p.Addr.String()); err == nil {
			c.Address = at.Addr().Unmap()
		}
	}
	return c
}
