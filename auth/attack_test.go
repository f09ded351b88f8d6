package auth_test

import (
	"strings"
	"testing"

	"github.com/conclave-secrets/conclave/auth"
)

// What lies in two lists of ranges is no more than lies in each of them.
func TestIntersect(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"", "", ""}, {"10.0.0.0/8", "", "10.0.0.0/8"}, {"", "10.0.0.0/8", "10.0.0.0/8"}, {"10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16"},
		{"10.1.0.0/16", "10.0.0.0/8", "10.1.0.0/16"}, {"10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/8"}, {"10.0.0.0/8", "11.0.0.0/8", "none"},
		{"10.0.0.0/8 192.0.2.0/24", "10.1.0.0/16 192.0.0.0/16 2001:db8::/32", "192.0.2.0/24 10.1.0.0/16"}, {"0.0.0.0/0", "::/0", "none"},
		{"::/0", "2001:db8::1/128", "2001:db8::1/128"},
	} {
		got, some := auth.Intersect(strings.Fields(c.a), strings.Fields(c.b))
		if text := strings.Join(got, " "); some == (c.want == "none") || some && text != c.want {
			t.Errorf("%q and %q: %q, %v", c.a, c.b, text, some)
		}
	}
}
