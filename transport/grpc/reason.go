package grpc

import (
	"context"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// The metadata in which a client says why it asks. gRPC carries ASCII in the one
// and anything in the other.
const (
	reasonKey       = "x-conclave-reason"
	reasonBinaryKey = "x-conclave-reason-bin"
)

// maxReason bounds a reason, in bytes: as much as the audit log keeps.
const maxReason = 512

// reasonOf is why a client asks, in its own words.
func reasonOf(md metadata.MD) string {
	for _, key := range []string{reasonKey, reasonBinaryKey} {
		if v := md.Get(key); len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

// checkReason refuses a reason that the audit log would not show as it was sent.
// A policy may have judged by what is then cut off.
func checkReason(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	switch reason := reasonOf(md); {
	case len(reason) > maxReason:
		return nil, invalid("shorten it, or name a ticket that says more", "the reason of %d bytes is longer than %d", len(reason), maxReason)
	case !utf8.ValidString(reason), strings.ContainsFunc(reason, unicode.IsControl):
		return nil, invalid("give it as one line of text", "the reason is not valid UTF-8, or has a control character")
	}
	return handle(ctx, req)
}
