package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// collector accepts connections and hands over each with a reader.
func collector(t *testing.T, network, address string) (net.Listener, chan net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l, conns
}

// A socket sink delivers whole lines over TCP and Unix sockets, and connects again
// after the collector went away.
func TestSocket(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "s")
		}
		l, conns := collector(t, network, address)
		w := NewSocket(network, l.Addr().String(), nil)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.Write(ctx, []byte("one\ntwo\n")); err != nil {
			t.Fatal(err)
		}
		c := <-conns
		if got, err := bufio.NewReader(c).ReadString('w'); err != nil || got != "one\ntw" {
			t.Errorf("%q, %v", got, err)
		}
		c.Close()
		heard := make(chan error, 1)
		go func() {
			got, err := bufio.NewReader(<-conns).ReadString('\n')
			if !strings.HasPrefix(got, "again ") {
				err = fmt.Errorf("read %q, %w", got, err)
			}
			heard <- err
		}()
		// The hang-up is heard by another goroutine: write until it was.
		for i, done := 0, false; !done; i++ {
			if err := w.Write(ctx, fmt.Appendf(nil, "again %d\n", i)); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-heard:
				if done = true; err != nil {
					t.Error(err)
				}
			default:
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Nobody listening is an error at once; a collector that does not read is one at the
// context's end.
func TestSocketFails(t *testing.T) {
	w := NewSocket("unix", filepath.Join(t.TempDir(), "none"), nil)
	if err := w.Write(context.Background(), []byte("x\n")); err == nil {
		t.Error("no error")
	}
	l, conns := collector(t, "tcp", "127.0.0.1:0")
	w = NewSocket("tcp", l.Addr().String(), nil)
	if err := w.Write(context.Background(), []byte("x\n")); err != nil {
		t.Fatal(err)
	}
	much := make([]byte, 64<<20)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	if err := w.Write(ctx, much); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	(<-conns).Close()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// Syslog messages have the framing that each transport asks for, one message a
// record.
func TestSyslog(t *testing.T) {
	now := func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	lines := []byte("{\"a\":1}\n{\"b\":22}\n")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	l, conns := collector(t, "tcp", "127.0.0.1:0")
	w := NewSyslog("tcp", l.Addr().String(), "conclave", "host1", now, nil)
	if err := w.Write(ctx, lines); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(<-conns)
	one := `<86>1 2026-03-01T12:00:00.000000Z host1 conclave - - - {"a":1}`
	two := `<86>1 2026-03-01T12:00:00.000000Z host1 conclave - - - {"b":22}`
	if want := fmt.Sprintf("%d %s%d %s", len(one), one, len(two), two); err != nil || string(got) != want {
		t.Errorf("got  %q, %v\nwant %q", got, err, want)
	}
	path := filepath.Join(t.TempDir(), "log")
	pc, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	w = NewSyslog("unixgram", path, "conclave", "host1", now, nil)
	if err := w.Write(ctx, lines); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`<86>Mar  1 12:00:00 conclave: {"a":1}`, `<86>Mar  1 12:00:00 conclave: {"b":22}`} {
		b := make([]byte, 1000)
		n, _, err := pc.ReadFrom(b)
		if err != nil || string(b[:n]) != want {
			t.Errorf("got %q, %v, want %q", b[:n], err, want)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// No error of this package quotes what was to be recorded.
func TestErrorsAreSilent(t *testing.T) {
	const canary = "cAnArY"
	fsys := newMemFS(1)
	o := testOptions(fsys)
	var said strings.Builder
	o.Notify = func(e Event) { fmt.Fprintln(&said, e) }
	l := mustOpen(t, o)
	fsys.mu.Lock()
	fsys.fail = func(int, string) error { return errPower }
	fsys.mu.Unlock()
	e := entry(canary)
	e.Response = Data{JSON: []byte(`{"a":"` + canary + `"}`)}
	err := l.Append(context.Background(), e)
	fmt.Fprintln(&said, err)
	fmt.Fprintf(&said, "%+v\n", l.Status())
	fsys.mu.Lock()
	fsys.fail = nil
	fsys.mu.Unlock()
	fsys.put(testPath, []byte(`{"seq":1,"prev":"`+canary+"\"}\n"+canary+"\n"+canary))
	_, err = verify(t, fsys)
	fmt.Fprintln(&said, err)
	_, faults := ids(t, fsys, Filter{})
	fmt.Fprintln(&said, faults)
	var head Head
	fmt.Fprintln(&said, head.Hash.UnmarshalText([]byte(strings.Repeat(canary, 20))))
	if strings.Contains(said.String(), canary) || said.Len() < 200 {
		t.Errorf("said %s", &said)
	}
	if !regexp.MustCompile(`audit sink file: .*power is gone`).MatchString(said.String()) {
		t.Errorf("the error does not say what happened: %s", &said)
	}
}

// A head survives its spelling, and nothing else is one.
func TestHeadSpelling(t *testing.T) {
	h := Head{77, Hash{1, 2, 0xff}}
	if got, err := ParseHead(h.String()); err != nil || got != h {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", ":", "1", "1:", "x:" + h.Hash.String(), "1:" + h.Hash.String() + "0", "99999999999999999999:" + h.Hash.String()} {
		if _, err := ParseHead(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}

// Failures have names that outlive the machine.
func TestClass(t *testing.T) {
	for want, err := range map[string]error{
		"no space": fmt.Errorf("writing: %w", syscall.ENOSPC), "deadline exceeded": context.DeadlineExceeded, "other failure": errors.New("x"),
	} {
		if got := class(err); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
}
