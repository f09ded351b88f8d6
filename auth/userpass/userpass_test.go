package userpass

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/conclave-secrets/conclave/auth"
	"github.com/conclave-secrets/conclave/auth/authtest"
	"github.com/conclave-secrets/conclave/engine"
	"github.com/conclave-secrets/conclave/engine/enginetest"
)

// cheap is a cost that tests can pay often.
var cheap = cost{passes: 1, kibi: 64, threads: 1}

func newCheap() *Backend { return &Backend{newHasher(cheap, 4, 64)} }

func login(name, password string) authtest.Request {
	return authtest.Write("login/"+name, fmt.Sprintf(`{"password":%q}`, password))
}

// The method keeps the contract of an auth method.
func TestContract(t *testing.T) {
	b := newCheap()
	write := authtest.Write
	authtest.Test(t, authtest.Spec{
		Backend: b,
		Prepare: []authtest.Request{
			write("users/ann", `{"password":"correct horse","token_policies":"dev"}`),
			write("users/bob", `{"password":"battery staple","bound_cidrs":"10.0.0.0/8"}`),
		},
		Good:    login("ann", "correct horse"),
		Wrong:   []authtest.Request{login("ann", "wrong"), login("bob", "battery staple"), login("ann", "battery staple")},
		Unknown: []authtest.Request{login("eve", "wrong"), login("eve", "battery staple"), login("mallory", "correct horse")},
		Secrets: []string{"correct horse", "battery staple"},
		Work:    b.hasher.hashed,
		Requests: []authtest.Request{
			authtest.List("users"), authtest.Read("users/ann"), authtest.Read("users/eve"),
			write("users/new", `{"password":"x","token_ttl":"1h"}`), write("users/new", `{}`), write("users/ann", `{"token_policies":["a"]}`),
			authtest.Delete("users/ann"), authtest.Delete("users/eve"), login("ann", ""), login("eve", ""),
			write("users/ann/password", `{"password":"other"}`), write("users/eve/password", `{"password":"other"}`),
			write("users/ann/policies", `{"policies":"a,b"}`), write("users/ann/policies", `{}`), write("users/ann/unlock", ""),
		},
	})
}

// hashed tells how many hashings were done.
func (h *hasher) hashed() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// What clients see, call by call.
func TestStories(t *testing.T) {
	authtest.Stories(t, "testdata", func() engine.Backend { return newCheap() })
}

func newMount(t *testing.T, b *Backend) *authtest.Mount {
	m := authtest.NewMount(t, b, nil)
	m.Must(t, authtest.Dice(1), authtest.Write("users/ann", `{"password":"right"}`))
	return m
}

func kindOf(err error) auth.Kind {
	var c *auth.CredentialError
	if errors.As(err, &c) {
		return c.Kind
	}
	return 0
}

// Of many guesses at once no more than the threshold are judged, for a name that
// exists and for one that does not; then even the right password is refused.
func TestLockoutIsExact(t *testing.T) {
	for _, name := range []string{"ann", "eve"} {
		m := newMount(t, newCheap())
		kinds := make(chan auth.Kind, 40)
		var group sync.WaitGroup
		for i := range cap(kinds) {
			group.Go(func() {
				_, err := m.Do(login(name, fmt.Sprint("guess ", i)), authtest.Dice(byte(i)))
				kinds <- kindOf(err)
			})
		}
		group.Wait()
		close(kinds)
		seen := map[auth.Kind]int{}
		for k := range kinds {
			seen[k]++
		}
		if seen[auth.Invalid] != 5 || seen[auth.Locked] != 35 {
			t.Errorf("%s: guesses were %v", name, seen)
		}
		if _, err := m.Do(login(name, "right"), authtest.Dice(1)); kindOf(err) != auth.Locked {
			t.Errorf("%s: the locked name is told %v", name, err)
		}
	}
}

// A login that is judged while the last allowed guess fails elsewhere does not
// commit on the strength of its password.
func TestSuccessLosesAgainstLock(t *testing.T) {
	m := newMount(t, newCheap())
	b, err := m.Bind(login("ann", "right"))
	if err != nil {
		t.Fatal(err)
	}
	tx := m.Store.Begin("mount")
	if a, err := m.Run(t.Context(), tx, authtest.Dice(1), b); err != nil || a.Login == nil {
		t.Fatal(a, err)
	}
	for range 5 {
		if _, err := m.Do(login("ann", "wrong"), authtest.Dice(2)); kindOf(err) != auth.Invalid {
			t.Fatal(err)
		}
	}
	// core proposes the token with these guards; any write shows whether they hold.
	if err := tx.PutRecord(engine.Path{"token"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); !errors.Is(err, enginetest.ErrConflict) {
		t.Errorf("the login commits: %v", err)
	}
}

// A request that runs again because of a conflict does not hash again, and its
// verdict is forgotten when it ends.
func TestOneRequestHashesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCheap()
		m := newMount(t, b)
		for _, r := range []authtest.Request{login("ann", "right"), login("ann", "wrong"), login("eve", "wrong")} {
			bound, err := m.Bind(r)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			before := b.hasher.hashed()
			var verdicts []bool
			for range 5 {
				a, err := m.Run(ctx, m.Store.Begin("mount"), authtest.Dice(1), bound)
				if err != nil {
					t.Fatal(err)
				}
				verdicts = append(verdicts, a.Login != nil)
			}
			if n := b.hasher.hashed() - before; n != 1 {
				t.Errorf("%s: five runs hashed %d times", r.Path, n)
			}
			for _, v := range verdicts {
				if v != strings.Contains(r.Body, "right") {
					t.Errorf("%s: verdicts %v", r.Path, verdicts)
				}
			}
			cancel()
			synctest.Wait()
			if n := len(b.hasher.judged); n != 0 {
				t.Errorf("%d verdicts outlive their requests", n)
			}
		}
	})
}

// Requests share no verdict, for then the time of one would tell of another: the
// same password for two names costs two hashings, whether or not they exist, even
// when the requests share a context; and so do two requests for one name.
func TestRequestsShareNoVerdict(t *testing.T) {
	b := newCheap()
	m := newMount(t, b)
	run := func(ctx context.Context, name string) uint64 {
		bound, err := m.Bind(login(name, "guess"))
		if err != nil {
			t.Fatal(err)
		}
		before := b.hasher.hashed()
		if _, err := m.Run(ctx, m.Store.Begin("mount"), authtest.Dice(1), bound); err != nil {
			t.Fatal(err)
		}
		return b.hasher.hashed() - before
	}
	other, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, name := range []string{"eve", "mallory", "ann"} {
		if first, second := run(t.Context(), name), run(other, name); first != 1 || second != 1 {
			t.Errorf("%s: requests hashed %d and %d times", name, first, second)
		}
	}
}

// However many log in at once, no more hash than there are turns; who finds the
// queue full is sent away, and who gives up leaves it.
func TestHashingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHasher(cheap, 1, 1)
		h.turns <- struct{}{} // somebody hashes
		h.queue <- struct{}{}
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() {
			_, err := h.Verify(ctx, "ann", h.dummy, "waits")
			gaveUp <- err
		}()
		synctest.Wait()
		var busy *auth.UnavailableError
		if _, err := h.Verify(t.Context(), "ann", h.dummy, "too many"); !errors.As(err, &busy) || busy.RetryAfterHint() <= 0 {
			t.Errorf("a full queue answers %v", err)
		}
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up is told %v", err)
		}
		<-h.turns
		<-h.queue
		if right, err := h.Verify(t.Context(), "ann", h.dummy, "turn"); right || err != nil {
			t.Errorf("after all have gone: %v %v", right, err)
		}
		if h.hashed() != 1 || len(h.queue)+len(h.turns) != 0 {
			t.Errorf("%d hashings, %d places taken", h.hashed(), len(h.queue)+len(h.turns))
		}
	})
}

// referenceHash is of "password", from the test vectors of the reference
// implementation, which won the Password Hashing Competition (src/test.c).
const referenceHash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

// A hash is what other programs that speak argon2id make of the password.
func TestHashIsArgon2id(t *testing.T) {
	h := newHasher(cheap, 1, 1)
	for password, want := range map[string]bool{"password": true, "Password": false, "": false} {
		right, err := h.Verify(t.Context(), "ann", referenceHash, password)
		if err != nil || right != want {
			t.Errorf("%q: %v %v", password, right, err)
		}
	}
	ownHash, err := h.Hash(t.Context(), authtest.Dice(1), "x")
	if err != nil {
		t.Fatal(err)
	}
	other, err := h.Hash(t.Context(), authtest.Dice(2), "x")
	if err != nil || ownHash == other {
		t.Errorf("two hashes of one password are the same: %v", err)
	}
}

// A damaged hash is an error, never a verdict, and never a reason to take all
// memory.
func FuzzParseHash(f *testing.F) {
	f.Add(referenceHash)
	f.Add(newHasher(cheap, 1, 1).dummy)
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$AAAA$AAAA")
	f.Add("$argon2id$v=19$m=64,t=0,p=0$$")
	f.Fuzz(func(t *testing.T, text string) {
		c, salt, sum, err := parseHash(text)
		if err != nil {
			if len(text) > 8 && strings.Contains(err.Error(), text) {
				t.Fatalf("the error repeats the hash: %v", err)
			}
			return
		}
		if c.print(salt, sum) != text || c.kibi > 256<<10 || c.passes > 16 || c.threads > 16 || c.passes == 0 || c.threads == 0 {
			t.Fatalf("%q is read as %+v", text, c)
		}
	})
}

// Options that make no sense are refused; others say when a name is locked.
func TestLockoutOptions(t *testing.T) {
	for _, bad := range []map[string]string{
		{"lockout_threshold": "0"}, {"lockout_threshold": "x"}, {"lockout_duration": "0"}, {"lockout_duration": "soon"},
		{"lockout_counter_reset": "-1s"}, {"lockout_disable": "perhaps"},
	} {
		var invalid *engine.InvalidError
		if _, err := newCheap().Routes(bad); !errors.As(err, &invalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	for name, c := range map[string]struct {
		options map[string]string
		fails   int
		wait    time.Duration // after each
		want    auth.Kind
	}{
		"locked after one":            {map[string]string{"lockout_threshold": "1"}, 1, 0, auth.Locked},
		"over":                        {map[string]string{"lockout_threshold": "1", "lockout_duration": "1m"}, 1, time.Minute, auth.Invalid},
		"not over":                    {map[string]string{"lockout_threshold": "1", "lockout_duration": "1m"}, 1, time.Minute - 1, auth.Locked},
		"forgotten before the second": {map[string]string{"lockout_threshold": "2", "lockout_counter_reset": "1m"}, 2, time.Minute, auth.Invalid},
		"counted just in time":        {map[string]string{"lockout_threshold": "2", "lockout_counter_reset": "1m"}, 2, time.Minute - 1, auth.Locked},
		"off":                         {map[string]string{"lockout_threshold": "1", "lockout_disable": "true"}, 2, 0, auth.Invalid},
	} {
		m := authtest.NewMount(t, newCheap(), c.options)
		for range c.fails {
			if _, err := m.Do(login("ann", "wrong"), authtest.Dice(1)); kindOf(err) != auth.Invalid {
				t.Errorf("%s: %v", name, err)
			}
			m.Store.Advance(c.wait)
		}
		if _, err := m.Do(login("ann", "wrong"), authtest.Dice(1)); kindOf(err) != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	h := newHasher(standardCost, maxHashing, maxWaiting)
	for b.Loop() {
		if _, err := h.Verify(context.Background(), "ann", h.dummy, "password"); err != nil {
			b.Fatal(err)
		}
	}
}
