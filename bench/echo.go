package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// The ceiling: what gRPC with TLS does on this machine, in this run, when the
// server does nothing. A figure of the cluster means most as a share of it.

// serveEcho is the other process: it prints its address and certificate, and
// answers health checks until its standard input ends.
func serveEcho() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})))
	healthpb.RegisterHealthServer(s, health.NewServer())
	fmt.Printf("%s %s\n", l.Addr(), base64.StdEncoding.EncodeToString(der))
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // ends with the parent
		s.Stop()
	}()
	return s.Serve(l)
}

// startSelf starts this program as another process, which prints one line when it
// is ready and ends with its standard input.
func startSelf(ctx context.Context, argument string) (line string, stop func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, argument)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error { return errors.Join(stdin.Close(), cmd.Wait()) }
	if line, err = bufio.NewReader(stdout).ReadString('\n'); err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return strings.TrimSpace(line), stop, nil
}

// echoCeiling measures unary calls to the other process.
func echoCeiling(ctx context.Context, s settings, r *report) (err error) {
	line, stop, err := startSelf(ctx, "-echo-server")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	address, encoded, _ := strings.Cut(line, " ")
	der, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	for _, clients := range s.clients {
		out, err := echo(ctx, address, roots, clients, s.length/2)
		if err != nil {
			return err
		}
		r.add(fmt.Sprintf("ceiling: gRPC echo, %d clients", clients), out.perSecond(), "/s", out.detail())
	}
	return nil
}

func echo(ctx context.Context, address string, roots *x509.CertPool, clients int, length time.Duration) (out outcome, err error) {
	var conns []*grpc.ClientConn
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	for range min(clients, 6) {
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: "localhost"})))
		if err != nil {
			return out, err
		}
		conns = append(conns, c)
	}
	out = closedLoop(ctx, clients, length, func(ctx context.Context, w, _ int) error {
		_, err := healthpb.NewHealthClient(conns[w%len(conns)]).Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	})
	return out, out.first
}
