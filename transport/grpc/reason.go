package grpc

import "google.golang.org/grpc/metadata"

// The metadata in which a client says why it asks. gRPC carries ASCII in the one
// and anything in the other.
const (
	reasonKey       = "x-conclave-reason"
	reasonBinaryKey = "x-conclave-reason-bin"
)

// reasonOf is why a client asks, in its own words.
func reasonOf(md metadata.MD) string {
	for _, key := range []string{reasonKey, reasonBinaryKey} {
		if v := md.Get(key); len(v) > 0 {
			return v[0]
		}
	}
	return ""
}
