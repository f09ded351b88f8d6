package grpc

import (
	"testing"

	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// A request names its mount as a list of mounts shows it, or is about secret/.
func TestMountOf(t *testing.T) {
	for sent, want := range map[string]string{"": "secret/", "secret": "secret/", "secret/": "secret/", "team/a/": "team/a/",
		"/": "", "a//b": "", "../secret": "", "a\x00b": "", "/a": ""} {
		got, err := mountOf(&conclavev1.GetSecretRequest{Mount: sent})
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v; want %q", sent, got, err, want)
		}
	}
}
