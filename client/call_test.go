package client_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/conclave-secrets/conclave/client"
)

var fields = client.Data{"k": client.Text("swordfish")}

func put(s *scene, o client.PutOptions) error {
	_, err := s.Secrets.Put(context.Background(), "a/b", fields, o)
	return err
}

func get(s *scene) error {
	_, err := s.Secrets.Get(context.Background(), "a/b", client.GetOptions{})
	return err
}

// A sealed node and a leaderless one are skipped at once; the node that served
// is asked first the next time.
func TestCallFindsTheServingNodeAndRemembersIt(t *testing.T) {
	s := newScene(t, nil, []reply{sealed, sealed, sealed}, []reply{noLeader}, nil)
	for range 3 {
		if err := get(s); err != nil {
			t.Fatal(err)
		}
	}
	want := []int{1, 1, 3}
	for i, n := range s.nodes {
		if _, got := n.counts(); got != want[i] {
			t.Errorf("node %d was asked %d times, want %d", i, got, want[i])
		}
	}
	if len(s.clock.waits) != 0 {
		t.Errorf("waited %v although a node served", s.clock.waits)
	}
}

// An address where nobody listens is skipped, and the node there is found once
// it has started.
func TestCallReturnsToANodeThatCameBack(t *testing.T) {
	dead := reservedAddress(t)
	s := newScene(t, func(c *client.Config) {
		c.Addresses = append([]string{dead}, c.Addresses...)
		c.Clock = nil // the machine's: the connection is remade in the background
	}, nil)
	if err := get(s); err != nil {
		t.Fatal(err)
	}
	back := startNode(t, s.cert, dead)
	s.nodes[0].server.Stop()
	if err := get(s); err != nil {
		t.Fatal(err)
	}
	if _, gets := back.counts(); gets != 1 {
		t.Errorf("the node that came back was asked %d times, want 1", gets)
	}
}

func reservedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// When every node is sealed a person must act: the error comes at once.
func TestCallDoesNotWaitForASealedCluster(t *testing.T) {
	s := newScene(t, nil, []reply{sealed}, []reply{sealed})
	err := get(s)
	if !errors.Is(err, client.ErrSealed) {
		t.Fatalf("got %v, want ErrSealed", err)
	}
	if len(s.clock.waits) != 0 {
		t.Errorf("waited %v", s.clock.waits)
	}
	if e := client.AsError(err); e.Hint != "Unseal it." || e.Outcome != client.OutcomeNotDone {
		t.Errorf("got hint %q and outcome %q", e.Hint, e.Outcome)
	}
}

// A missing leader passes by itself: the call backs off, doubling, and succeeds.
func TestCallWaitsForALeader(t *testing.T) {
	s := newScene(t, nil, []reply{noLeader, noLeader, noLeader})
	if err := put(s, client.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	// Half of 50, 100, 200 ms, and half of the other half by the fixed jitter.
	want := []time.Duration{37500 * time.Microsecond, 75 * time.Millisecond, 150 * time.Millisecond}
	if len(s.clock.waits) != len(want) {
		t.Fatalf("waited %v, want %v", s.clock.waits, want)
	}
	for i := range want {
		if s.clock.waits[i] != want[i] {
			t.Errorf("wait %d was %v, want %v", i, s.clock.waits[i], want[i])
		}
	}
}

// What a server asks for is honoured, and RetryFor bounds the whole.
func TestCallHonoursRetryAfterAndGivesUp(t *testing.T) {
	s := newScene(t, func(c *client.Config) { c.RetryFor = 5 * time.Second }, nil)
	s.nodes[0].always = overloaded(3 * time.Second)
	err := put(s, client.PutOptions{})
	if !errors.Is(err, client.ErrOverloaded) || errors.Is(err, client.ErrUnknownOutcome) {
		t.Fatalf("got %v, want ErrOverloaded with a known outcome", err)
	}
	if len(s.clock.waits) != 2 || s.clock.waits[0] != 3*time.Second {
		t.Errorf("waited %v, want twice 3s", s.clock.waits)
	}
}

// A write of unknown outcome is repeated under one and the same key until an
// answer settles it.
func TestUnknownOutcomeIsResolvedUnderTheSameKey(t *testing.T) {
	for name, failure := range map[string]reply{
		"said by the server": unknown, "connection without an answer": bare(codes.Unavailable), "internal": bare(codes.Internal),
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, nil, []reply{failure, failure}, []reply{noLeader, sealed})
			if err := put(s, client.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			first := s.nodes[0].puts[0].GetWrite().GetIdempotencyKey()
			if len(first) != 32 {
				t.Errorf("idempotency key %q is not 128 bits in hex", first)
			}
			for _, n := range s.nodes {
				for _, p := range n.puts {
					if p.GetWrite().GetIdempotencyKey() != first {
						t.Errorf("repeated under key %q, want %q", p.GetWrite().GetIdempotencyKey(), first)
					}
				}
			}
		})
	}
}

// A verdict of a serving node under the same key settles earlier attempts.
func TestVerdictAfterUnknownIsDefinite(t *testing.T) {
	s := newScene(t, nil, []reply{unknown, casMismatch})
	err := put(s, client.PutOptions{CAS: new(uint64(3))})
	if !errors.Is(err, client.ErrConflict) || errors.Is(err, client.ErrUnknownOutcome) {
		t.Fatalf("got %v, want a definite ErrConflict", err)
	}
	if v := client.AsError(err).CurrentVersion; v != 9 {
		t.Errorf("current version %d, want 9", v)
	}
}

// A node that is broken has not looked whether the write was done: another one is asked,
// and if none can tell, the outcome stays unknown. (A node whose disk was full had
// carried a write out, could not record its answer, and refused the second attempt
// because it could not record that either.)
func TestBrokenNodesGiveNoVerdict(t *testing.T) {
	for name, broken := range map[string]reply{"internal": internalNotDone, "disk full": diskFull} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, nil, []reply{unknown, broken}, []reply{noLeader})
			if err := put(s, client.PutOptions{}); err != nil {
				t.Errorf("another node could have told: %v", err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			s = newScene(t, nil, []reply{unknown})
			s.nodes[0].always = broken
			rounds := 0
			s.clock.meanwhile = func() {
				if rounds++; rounds == 10 {
					cancel()
				}
			}
			if _, err := s.Secrets.Put(ctx, "a/b", fields, client.PutOptions{}); !errors.Is(err, client.ErrUnknownOutcome) {
				t.Errorf("got %v, want ErrUnknownOutcome", err)
			}
			s = newScene(t, nil, []reply{broken}, nil)
			if err := put(s, client.PutOptions{WriteOptions: client.WriteOptions{NoIdempotencyKey: true}}); err != nil {
				t.Errorf("nothing was done, and another node serves: %v", err)
			}
			s = newScene(t, nil, []reply{broken}, []reply{broken})
			if err := put(s, client.PutOptions{}); err == nil || errors.Is(err, client.ErrUnknownOutcome) || len(s.clock.waits) != 0 {
				t.Errorf("got %v after waiting %v, want a definite error at once", err, s.clock.waits)
			}
		})
	}
}

// A refused credential says nothing about what happened before it was refused.
func TestDenialAfterUnknownStaysUnknown(t *testing.T) {
	s := newScene(t, nil, []reply{unknown, denied})
	err := put(s, client.PutOptions{})
	if !errors.Is(err, client.ErrDenied) || !errors.Is(err, client.ErrUnknownOutcome) {
		t.Fatalf("got %v, want ErrDenied of unknown outcome", err)
	}
}

// When time runs out first, the outcome stays unknown, and the error carries
// the key under which to ask again.
func TestUnknownOutcomeIsNeverReportedAsNotDone(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	s := newScene(t, nil, []reply{unknown})
	s.nodes[0].always = sealed
	rounds := 0
	s.clock.meanwhile = func() {
		if rounds++; rounds == 30 {
			cancel()
		}
	}
	_, err := s.Secrets.Put(ctx, "a/b", fields, client.PutOptions{})
	if !errors.Is(err, client.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want ErrUnknownOutcome and context.Canceled", err)
	}
	if client.AsError(err).IdempotencyKey != s.nodes[0].puts[0].GetWrite().GetIdempotencyKey() {
		t.Error("the error does not carry the key of the write")
	}
	if rounds != 30 {
		t.Errorf("gave up after %d rounds although the context lived", rounds)
	}
}

// Without a key, or for a call that knows none, an unknown outcome ends the call.
func TestWriteWithoutKeyIsNotRepeated(t *testing.T) {
	s := newScene(t, nil, []reply{bare(codes.Unavailable)})
	err := put(s, client.PutOptions{WriteOptions: client.WriteOptions{NoIdempotencyKey: true}})
	if !errors.Is(err, client.ErrUnknownOutcome) {
		t.Fatalf("got %v, want ErrUnknownOutcome", err)
	}
	if n, _ := s.nodes[0].counts(); n != 1 {
		t.Errorf("sent %d times, want once", n)
	}
	s = newScene(t, nil, []reply{bare(codes.Unavailable)})
	if err := s.Operator.Seal(context.Background()); !errors.Is(err, client.ErrUnknownOutcome) {
		t.Fatalf("got %v, want ErrUnknownOutcome", err)
	}
	if s.nodes[0].seals != 1 {
		t.Errorf("sent %d times, want once", s.nodes[0].seals)
	}
}

// Even without a key, a write is sent elsewhere when it was provably not done:
// refused by a sealed node, or never handed to a connection.
func TestWriteWithoutKeyIsRepeatedWhenNotDone(t *testing.T) {
	dead := reservedAddress(t)
	s := newScene(t, func(c *client.Config) { c.Addresses = append([]string{dead}, c.Addresses...) }, []reply{sealed}, nil)
	if err := put(s, client.PutOptions{WriteOptions: client.WriteOptions{NoIdempotencyKey: true}}); err != nil {
		t.Fatal(err)
	}
	if n, _ := s.nodes[1].counts(); n != 1 {
		t.Errorf("sent to the serving node %d times, want once", n)
	}
}

// A node that accepts and never answers is left for another.
func TestHangingNodeIsLeft(t *testing.T) {
	s := newScene(t, func(c *client.Config) { c.AttemptTimeout = 50 * time.Millisecond }, []reply{hang}, nil)
	if err := get(s); err != nil {
		t.Fatal(err)
	}
	if err := put(s, client.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// The caller's own deadline is told apart from a broken node, and a read never
// has an unknown outcome.
func TestCallEndsWithItsContext(t *testing.T) {
	s := newScene(t, nil, nil)
	s.nodes[0].always = hang
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Secrets.Get(ctx, "a/b", client.GetOptions{})
	e := client.AsError(err)
	if !errors.Is(err, context.DeadlineExceeded) || e == nil || e.Reason != client.ReasonEnded || e.Outcome != client.OutcomeNotDone {
		t.Fatalf("got %#v, want a deadline with nothing done", err)
	}
}

// An unreachable cluster is explained by address and cause.
func TestUnreachableIsExplained(t *testing.T) {
	dead := reservedAddress(t)
	s := newScene(t, func(c *client.Config) { c.Addresses = []string{dead}; c.RetryFor = -1 })
	err := get(s)
	var refused *net.OpError
	if !errors.Is(err, client.ErrUnavailable) || !errors.As(err, &refused) {
		t.Fatalf("got %v, want ErrUnavailable with the network's error", err)
	}
	if client.AsError(err).Hint == "" {
		t.Error("no hint")
	}
}

// A foreign authority is explained, and the token does not leave the process.
func TestForeignAuthorityIsExplained(t *testing.T) {
	other, _ := authority(t)
	s := newScene(t, func(c *client.Config) { c.CAPEM = other; c.RetryFor = -1 }, nil)
	err := get(s)
	if !errors.Is(err, client.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	if _, gets := s.nodes[0].counts(); gets != 0 {
		t.Error("the call reached a node of a foreign authority")
	}
	if hint := client.AsError(err).Hint; hint == "" || hint == "Check the address, the network and that the node runs." {
		t.Errorf("hint %q does not speak of the authority", hint)
	}
}

// A read leaves a broken node for another, and does not insist when all are.
func TestReadLeavesABrokenNode(t *testing.T) {
	s := newScene(t, nil, []reply{bare(codes.Internal)}, nil)
	if err := get(s); err != nil {
		t.Fatal(err)
	}
	s = newScene(t, nil, []reply{bare(codes.Internal)}, []reply{bare(codes.Internal)})
	if e := client.AsError(get(s)); e == nil || e.Reason != client.ReasonInternal || e.Outcome != client.OutcomeNotDone {
		t.Errorf("got %v, want an internal error with nothing done", e)
	}
	if len(s.clock.waits) != 0 {
		t.Errorf("waited %v", s.clock.waits)
	}
}

// A write whose context ends while a node works on it is of unknown outcome.
func TestWriteCutShortIsUnknown(t *testing.T) {
	s := newScene(t, nil, nil)
	s.nodes[0].always = hang
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := s.Secrets.Put(ctx, "a/b", fields, client.PutOptions{})
	if !errors.Is(err, client.ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want ErrUnknownOutcome and a deadline", err)
	}
}

// When no node can be reached, each is named with its own cause.
func TestUnreachableNodesAreAllExplained(t *testing.T) {
	one, two := reservedAddress(t), reservedAddress(t)
	s := newScene(t, func(c *client.Config) { c.Addresses = []string{one, two}; c.RetryFor = -1 })
	e := client.AsError(get(s))
	if e == nil || !strings.Contains(e.Message, one) || !strings.Contains(e.Message, two) {
		t.Errorf("got %v, want both %s and %s named", e, one, two)
	}
}

// A request that cannot be encoded is the caller's mistake: it is told at once,
// by the field's name, and nothing was done.
func TestTextThatIsNotUTF8(t *testing.T) {
	for _, test := range []struct {
		path string
		data client.Data
		key  string
		want string
	}{
		{"a/\xff", fields, "", "path is not valid UTF-8"},
		{"a", client.Data{"\xff": client.Text("x")}, "", "a name in data is not valid UTF-8"},
		{"a", client.Data{"v": client.Text("\xff")}, "", "text is not valid UTF-8"},
		{"a", fields, "\xff", "idempotency_key is not valid UTF-8"},
	} {
		s := newScene(t, nil, nil)
		_, err := s.Secrets.Put(context.Background(), test.path, test.data, client.PutOptions{WriteOptions: client.WriteOptions{IdempotencyKey: test.key}})
		e := client.AsError(err)
		if e == nil || !errors.Is(err, client.ErrInvalid) || e.Outcome != client.OutcomeNotDone || e.Message != test.want {
			t.Errorf("got %v, want %q, invalid and not done", err, test.want)
		}
	}
}
