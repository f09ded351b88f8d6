package fabric_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/conclave-secrets/conclave/jepsen/fabric"
)

const port, otherPort = 4000, 4001

// build makes a network for the length of a test.
func build(t *testing.T, hosts int) *fabric.Fabric {
	t.Helper()
	f, err := fabric.New(fabric.Options{Hosts: hosts, Seed: 7, Ports: map[uint16]fabric.Class{port: fabric.Peer, otherPort: fabric.Gossip}})
	if errors.Is(err, fabric.ErrUnavailable) {
		t.Skipf("SKIPPED, NOTHING WAS TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// echo answers every TCP connection at a host with what it sends.
func echo(t *testing.T, h *fabric.Host, port uint16) string {
	t.Helper()
	l, err := h.Listen(context.Background(), port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				_, _ = io.Copy(c, c) // ends with the test's side
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

// A stream crosses unharmed at tens of megabytes a second, and whatever bits of it
// are lost, doubled, late or out of order.
func TestStreamsCross(t *testing.T) {
	for name, c := range map[string]struct {
		bytes  int
		effect *fabric.Effect
		bit    func(fabric.Counts) uint64
	}{
		"nothing": {32 << 20, nil, func(c fabric.Counts) uint64 { return c.Passed }},
		"loss":    {1 << 20, &fabric.Effect{Loss: 0.02}, func(c fabric.Counts) uint64 { return c.Dropped }},
		"delay":   {1 << 20, &fabric.Effect{Delay: 2 * time.Millisecond, Jitter: 3 * time.Millisecond}, func(c fabric.Counts) uint64 { return c.Delayed }},
		"twice":   {4 << 20, &fabric.Effect{Duplicate: 0.1}, func(c fabric.Counts) uint64 { return c.Duplicated }},
		"reorder": {4 << 20, &fabric.Effect{Reorder: 0.1, Hold: 5 * time.Millisecond}, func(c fabric.Counts) uint64 { return c.Reordered }},
	} {
		t.Run(name, func(t *testing.T) {
			f := build(t, 2)
			address := echo(t, f.Hosts[1], port)
			conn, err := f.Hosts[0].DialContext(within(t, 5*time.Second), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			counts := func() fabric.Counts { return f.Counts(fabric.Pair{From: 0, To: 1}) }
			if c.effect != nil {
				counts = f.Impose(*c.effect, fabric.Among([]int{0, 1})...).Counts
			}
			want := make([]byte, c.bytes)
			for i := range len(want) / 4 {
				binary.LittleEndian.PutUint32(want[4*i:], uint32(i))
			}
			began := time.Now()
			sent := make(chan error, 1)
			go func() {
				_, err := conn.Write(want)
				sent <- errors.Join(err, conn.(*net.TCPConn).CloseWrite())
			}()
			if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn)
			if err := errors.Join(err, <-sent); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Error("what came back is not what was sent")
			}
			t.Logf("%d MiB both ways in %v: %+v", c.bytes>>20, time.Since(began), counts())
			if c.bit(counts()) == 0 {
				t.Errorf("the fault did nothing: %+v", counts())
			}
		})
	}
}

// ping sends a datagram from a host until it arrives at the socket, or patience ends.
func ping(t *testing.T, from *fabric.Host, to net.PacketConn, patience time.Duration) bool {
	t.Helper()
	conn, err := from.DialContext(within(t, time.Second), "udp", to.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buffer := make([]byte, 100)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		_, _ = conn.Write([]byte("x")) // refused or lost: that is the answer
		if err := to.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := to.ReadFrom(buffer); err == nil {
			return true
		}
	}
	return false
}

// A cut stops one direction of one pair and one class, and nothing else.
func TestCuts(t *testing.T) {
	f := build(t, 3)
	sockets := map[int]net.PacketConn{}
	for i, h := range f.Hosts {
		c, err := h.ListenPacket(context.Background(), port)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		sockets[i] = c
	}
	gossip, err := f.Hosts[1].ListenPacket(context.Background(), otherPort)
	if err != nil {
		t.Fatal(err)
	}
	defer gossip.Close()
	reaches := func(from, to int, want bool) {
		t.Helper()
		patience := 5 * time.Second
		if !want {
			patience = 100 * time.Millisecond
		}
		if got := ping(t, f.Hosts[from], sockets[to], patience); got != want {
			t.Errorf("%d reaches %d: %t, want %t", from, to, got, want)
		}
	}
	reaches(0, 1, true)
	oneWay := f.Impose(fabric.Effect{Cut: true, Class: fabric.Peer}, fabric.Pair{From: 0, To: 1})
	reaches(0, 1, false)
	reaches(1, 0, true)
	reaches(0, 2, true)
	if !ping(t, f.Hosts[0], gossip, 5*time.Second) {
		t.Error("another class is cut, too")
	}
	side := f.Impose(fabric.Effect{Cut: true}, fabric.Between([]int{0, 1}, []int{2})...)
	reaches(0, 2, false)
	reaches(2, 1, false)
	oneWay.Lift()
	reaches(0, 1, true)
	reaches(0, 2, false)
	f.Heal()
	reaches(0, 2, true)
	if oneWay.Counts().Dropped == 0 || side.Counts().Dropped == 0 {
		t.Errorf("nothing was dropped: %+v, %+v", oneWay.Counts(), side.Counts())
	}
	if c := f.Counts(fabric.Pair{From: 1, To: 0}); c.Dropped != 0 {
		t.Errorf("the way back was cut, too: %+v", c)
	}
}

// A process has the fabric's network and no other, and ends with the fabric.
func TestProcesses(t *testing.T) {
	f := build(t, 2)
	var out bytes.Buffer
	look := exec.Command("cat", "/proc/self/net/dev", "/proc/self/net/fib_trie")
	look.Stdout = &out
	if err := errors.Join(f.Hosts[1].Start(look), look.Wait()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.Contains(got, f.Hosts[1].Address.String()) || strings.Contains(got, f.Hosts[0].Address.String()) || strings.Contains(got, "eth0") {
		t.Errorf("the process sees\n%s", got)
	}
	sleeper := exec.Command("sleep", "600")
	if err := f.Hosts[0].Start(sleeper); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sleeper.Wait() }()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended well")
		}
	case <-time.After(10 * time.Second):
		t.Error("a process outlives the fabric")
		_ = sleeper.Process.Kill() // nothing to be done about it here
	}
}

func TestNamesAreRefused(t *testing.T) {
	f := build(t, 1)
	if _, err := f.Hosts[0].DialContext(context.Background(), "tcp", "localhost:80"); err == nil {
		t.Error("a name was dialled")
	}
	if !f.Hosts[0].Address.Is4() || !netip.MustParsePrefix("10.77.0.0/24").Contains(f.Hosts[0].Address) {
		t.Errorf("the address is %v", f.Hosts[0].Address)
	}
}
