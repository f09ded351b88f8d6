package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Who asks and why travels with each call and not with a connection, so that
// clients with other tokens and reasons share connections.

// WithToken returns a client over the same connections that sends another token,
// or none for the zero Token. To close one is to close both.
func (c *Client) WithToken(t Token) (*Client, error) {
	cfg := c.config
	cfg.Token = t
	if err := cfg.Token.check(); err != nil {
		return nil, err
	}
	return assemble(cfg, c.pool, c.session), nil
}

// WithReason returns a client over the same connections that gives another
// reason for what it does; see Config.Reason.
func (c *Client) WithReason(reason string) (*Client, error) {
	if err := checkReason(reason); err != nil {
		return nil, err
	}
	cfg := c.config
	cfg.Reason = reason
	return assemble(cfg, c.pool, c.session), nil
}

// maxReason bounds a reason, in bytes: as much as the audit log keeps.
const maxReason = 512

var errReason = errors.New("configuring client: the reason is not one line of UTF-8 text")

func checkReason(reason string) error {
	switch {
	case len(reason) > maxReason:
		return fmt.Errorf("configuring client: the reason of %d bytes is longer than %d", len(reason), maxReason)
	case !utf8.ValidString(reason), strings.ContainsFunc(reason, unicode.IsControl):
		return errReason
	}
	return nil
}

// The metadata that carries a reason. gRPC takes ASCII in the one, anything in
// the other.
const (
	reasonKey       = "x-conclave-reason"
	reasonBinaryKey = "x-conclave-reason-bin"
)

// withReason attaches the reason to a call.
func (c Config) withReason(ctx context.Context) context.Context {
	key := reasonKey
	if strings.ContainsFunc(c.Reason, func(r rune) bool { return r > '~' }) {
		key = reasonBinaryKey
	}
	if c.Reason == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, key, c.Reason)
}

// A bearing is a connection on which each call carries a token.
type bearing struct {
	grpc.ClientConnInterface
	token Token
}

// Invoke implements grpc.ClientConnInterface.
func (b bearing) Invoke(ctx context.Context, method string, args, reply any, o ...grpc.CallOption) error {
	if !b.token.IsZero() {
		o = append(o[:len(o):len(o)], grpc.PerRPCCredentials(bearer{b.token}))
	}
	return b.ClientConnInterface.Invoke(ctx, method, args, reply, o...)
}
