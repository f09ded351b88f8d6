package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclave-secrets/conclave/client"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// A reply is what a scripted node does with one call: nil answers normally.
type reply func(ctx context.Context) error

// A fakeNode answers calls from a script, then normally, and remembers what it
// was asked. It is a fake because the tests here inject failures that a real
// cluster shows only rarely.
type fakeNode struct {
	conclavev1.UnimplementedSecretsServer
	conclavev1.UnimplementedPathsServer
	conclavev1.UnimplementedOperatorServer
	conclavev1.UnimplementedStatusServer

	address string
	server  *grpc.Server

	mu            sync.Mutex
	script        []reply
	always        reply
	puts          []*conclavev1.PutSecretRequest
	gets          []*conclavev1.GetSecretRequest
	seals         int
	calls         []*conclavev1.CallPathRequest
	answer        *conclavev1.CallPathResponse
	authorization []string
	reasons       []string
	index         uint64
}

func (f *fakeNode) next(ctx context.Context) error {
	f.mu.Lock()
	md, _ := metadata.FromIncomingContext(ctx)
	f.authorization = md.Get("authorization")
	f.reasons = append(md.Get("x-conclave-reason"), md.Get("x-conclave-reason-bin")...)
	step := f.always
	if len(f.script) > 0 {
		step, f.script = f.script[0], f.script[1:]
	}
	f.mu.Unlock()
	if step == nil {
		return nil
	}
	return step(ctx)
}

func (f *fakeNode) Put(ctx context.Context, r *conclavev1.PutSecretRequest) (*conclavev1.PutSecretResponse, error) {
	f.mu.Lock()
	f.puts = append(f.puts, r)
	f.mu.Unlock()
	if err := f.next(ctx); err != nil {
		return nil, err
	}
	return &conclavev1.PutSecretResponse{Version: &conclavev1.VersionInfo{Version: 7}, Index: f.index}, nil
}

func (f *fakeNode) Get(ctx context.Context, r *conclavev1.GetSecretRequest) (*conclavev1.GetSecretResponse, error) {
	f.mu.Lock()
	f.gets = append(f.gets, r)
	f.mu.Unlock()
	if err := f.next(ctx); err != nil {
		return nil, err
	}
	return &conclavev1.GetSecretResponse{Index: f.index, Secret: &conclavev1.Secret{
		Path: r.GetPath(),
		Data: map[string]*conclavev1.Field{
			"text":   {Kind: &conclavev1.Field_Text{Text: "swordfish"}},
			"binary": {Kind: &conclavev1.Field_Binary{Binary: []byte{0, 255}}},
			"json":   {Kind: &conclavev1.Field_Json{Json: "[1,2]"}},
		},
		Version: &conclavev1.VersionInfo{Version: 3},
	}}, nil
}

func (f *fakeNode) Call(ctx context.Context, r *conclavev1.CallPathRequest) (*conclavev1.CallPathResponse, error) {
	f.mu.Lock()
	f.calls = append(f.calls, r)
	answer := f.answer
	f.mu.Unlock()
	if err := f.next(ctx); err != nil {
		return nil, err
	}
	if answer == nil {
		answer = &conclavev1.CallPathResponse{Index: f.index}
	}
	return answer, nil
}

func (f *fakeNode) Seal(ctx context.Context, _ *conclavev1.SealRequest) (*conclavev1.SealResponse, error) {
	f.mu.Lock()
	f.seals++
	f.mu.Unlock()
	if err := f.next(ctx); err != nil {
		return nil, err
	}
	return &conclavev1.SealResponse{}, nil
}

func (f *fakeNode) counts() (puts, gets int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.puts), len(f.gets)
}

// refusal is a server's error with its detail.
func refusal(code codes.Code, message string, d *conclavev1.ErrorDetail) reply {
	return func(context.Context) error {
		st, err := status.New(code, message).WithDetails(d)
		if err != nil {
			return err
		}
		return st.Err()
	}
}

var (
	sealed = refusal(codes.FailedPrecondition, "the node is sealed", &conclavev1.ErrorDetail{
		Reason: conclavev1.Reason_REASON_SEALED, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE, Hint: "Unseal it."})
	noLeader = refusal(codes.Unavailable, "the cluster has no leader", &conclavev1.ErrorDetail{
		Reason: conclavev1.Reason_REASON_NO_LEADER, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE})
	unknown = refusal(codes.Unknown, "leadership was lost", &conclavev1.ErrorDetail{
		Reason: conclavev1.Reason_REASON_UNKNOWN_OUTCOME, Outcome: conclavev1.Outcome_OUTCOME_UNKNOWN})
	internalNotDone = refusal(codes.Internal, "the audit log cannot be written", &conclavev1.ErrorDetail{
		Reason: conclavev1.Reason_REASON_INTERNAL, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE})
	diskFull = refusal(codes.ResourceExhausted, "the disk is nearly full", &conclavev1.ErrorDetail{
		Reason: conclavev1.Reason_REASON_DISK_FULL, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE})
	denied = refusal(codes.PermissionDenied, "not permitted", &conclavev1.ErrorDetail{
		Reason: conclavev1.Reason_REASON_DENIED, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE})
	casMismatch = refusal(codes.Aborted, "the current version is 9", &conclavev1.ErrorDetail{
		Reason: conclavev1.Reason_REASON_CAS_MISMATCH, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE, CurrentVersion: 9})
)

func overloaded(after time.Duration) reply {
	return refusal(codes.ResourceExhausted, "too many calls in flight", &conclavev1.ErrorDetail{
		Reason: conclavev1.Reason_REASON_OVERLOADED, Outcome: conclavev1.Outcome_OUTCOME_NOT_DONE, RetryAfter: durationpb.New(after)})
}

// bare fails like a proxy or a dying server: a status without a detail.
func bare(code codes.Code) reply {
	return func(context.Context) error { return status.Error(code, "bare") }
}

func hang(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// authority makes one certificate for all fake nodes of a test.
func authority(t *testing.T) (caPEM []byte, cert tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fake"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func startNode(t *testing.T, cert tls.Certificate, listenOn string, script ...reply) *fakeNode {
	t.Helper()
	listener, err := net.Listen("tcp", listenOn)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeNode{address: listener.Addr().String(), script: script, index: 10}
	f.server = grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	conclavev1.RegisterSecretsServer(f.server, f)
	conclavev1.RegisterPathsServer(f.server, f)
	conclavev1.RegisterOperatorServer(f.server, f)
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(listener) }()
	t.Cleanup(func() {
		f.server.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("serving: %v", err)
		}
	})
	return f
}

// A stoppedClock never waits: it notes the wish and moves the time.
type stoppedClock struct {
	mu    sync.Mutex
	now   time.Time
	waits []time.Duration
	// meanwhile, when set, runs in each wait.
	meanwhile func()
}

func (c *stoppedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *stoppedClock) Wait(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = append(c.waits, d)
	c.now = c.now.Add(d)
	if c.meanwhile != nil {
		c.meanwhile()
	}
	return context.Cause(ctx)
}

// A scene is a client with its clock and some nodes.
type scene struct {
	*client.Client
	clock *stoppedClock
	nodes []*fakeNode
	caPEM []byte
	cert  tls.Certificate
}

func newScene(t *testing.T, change func(*client.Config), scripts ...[]reply) *scene {
	t.Helper()
	s := &scene{clock: &stoppedClock{now: time.Unix(1e9, 0)}}
	s.caPEM, s.cert = authority(t)
	cfg := client.Config{
		CAPEM: s.caPEM, Token: client.NewToken("root-token"), Clock: s.clock,
		Jitter: func() float64 { return 0.5 }, Timeout: 20 * time.Second,
	}
	for _, script := range scripts {
		n := startNode(t, s.cert, "127.0.0.1:0", script...)
		s.nodes = append(s.nodes, n)
		cfg.Addresses = append(cfg.Addresses, n.address)
	}
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("closing client: %v", err)
		}
	})
	s.Client = c
	return s
}
