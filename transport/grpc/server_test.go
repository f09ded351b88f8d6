package grpc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	ggrpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	gstatus "google.golang.org/grpc/status"

	"github.com/conclave-secrets/conclave/core"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// fakeNode answers Status as a test says.
type fakeNode struct {
	Node
	status func(context.Context) (*conclavev1.GetStatusResponse, error)
}

func (f fakeNode) Status(ctx context.Context) (*conclavev1.GetStatusResponse, error) {
	return f.status(ctx)
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serve runs a server over node and returns a connection to it.
func serve(t *testing.T, o Options) (*Server, *ggrpc.ClientConn) {
	t.Helper()
	cert := certificate(t)
	o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
	s := New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		if err := s.Serve(l); err != nil {
			t.Error(err)
		}
	})
	roots := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(leaf)
	conn, err := ggrpc.NewClient(l.Addr().String(), ggrpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "localhost"})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s.Close(ctx)
		served.Wait()
	})
	return s, conn
}

// Every reason has a code, and none is spelled OK or Unknown.
func TestEveryReasonIsSpelled(t *testing.T) {
	for number := range conclavev1.Reason_name {
		r := conclavev1.Reason(number)
		if r == conclavev1.Reason_REASON_UNSPECIFIED {
			continue
		}
		c, ok := code[r]
		if !ok || c == codes.OK || c == codes.Unknown {
			t.Errorf("%v is spelled %v", r, c)
		}
		var detail *conclavev1.ErrorDetail
		for _, d := range gstatus.Convert(spell(&core.Error{Reason: r, Hint: "h"})).Details() {
			detail, _ = d.(*conclavev1.ErrorDetail)
		}
		if detail.GetReason() != r || detail.GetHint() != "h" {
			t.Errorf("%v: detail is %v", r, detail)
		}
	}
}

// A bug in one call is an error of that call, says nothing of its cause to the
// caller, and leaves the server serving.
func TestPanicStaysInItsCall(t *testing.T) {
	var logged bytes.Buffer
	broken := true
	_, conn := serve(t, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil)), Node: fakeNode{status: func(context.Context) (*conclavev1.GetStatusResponse, error) {
		if broken {
			panic("canary-7f3a")
		}
		return &conclavev1.GetStatusResponse{NodeId: "n1"}, nil
	}}})
	c := conclavev1.NewStatusClient(conn)
	_, err := c.Get(t.Context(), &conclavev1.GetStatusRequest{})
	if gstatus.Code(err) != codes.Internal || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v, want an internal error that tells nothing", err)
	}
	if strings.Contains(logged.String(), "canary") || !strings.Contains(logged.String(), "stack") {
		t.Errorf("the log shows the panic's value or lacks the stack: %s", logged.String())
	}
	broken = false
	if r, err := c.Get(t.Context(), &conclavev1.GetStatusRequest{}); err != nil || r.NodeId != "n1" {
		t.Errorf("after the panic: %v %v", r, err)
	}
}

// An error that is none of ours does not reach the caller.
func TestForeignErrorIsHidden(t *testing.T) {
	_, conn := serve(t, Options{Node: fakeNode{status: func(context.Context) (*conclavev1.GetStatusResponse, error) {
		return nil, errors.New("canary-91bc")
	}}})
	_, err := conclavev1.NewStatusClient(conn).Get(t.Context(), &conclavev1.GetStatusRequest{})
	if gstatus.Code(err) != codes.Internal || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v", err)
	}
}

// Calls above the limit are refused at once, with the time to come back.
func TestTooManyCallsAreRefused(t *testing.T) {
	entered, release := make(chan struct{}, 8), make(chan struct{})
	_, conn := serve(t, Options{MaxInFlight: 2, Node: fakeNode{status: func(context.Context) (*conclavev1.GetStatusResponse, error) {
		entered <- struct{}{}
		<-release
		return &conclavev1.GetStatusResponse{}, nil
	}}})
	c := conclavev1.NewStatusClient(conn)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			if _, err := c.Get(context.Background(), &conclavev1.GetStatusRequest{}); err != nil {
				t.Error(err)
			}
		})
		<-entered
	}
	_, err := c.Get(t.Context(), &conclavev1.GetStatusRequest{})
	if gstatus.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v, want a refusal", err)
	}
	close(release)
	group.Wait()
}

// Health follows the seal.
func TestHealthFollowsTheSeal(t *testing.T) {
	s, conn := serve(t, Options{Node: fakeNode{}})
	c := healthpb.NewHealthClient(conn)
	for _, serving := range []bool{false, true, false} {
		s.SetServing(serving)
		r, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{Service: conclavev1.Secrets_ServiceDesc.ServiceName})
		if err != nil || (r.Status == healthpb.HealthCheckResponse_SERVING) != serving {
			t.Errorf("serving %v: got %v %v", serving, r, err)
		}
	}
}
