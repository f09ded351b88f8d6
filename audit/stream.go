package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Dialer connects a socket sink; net.Dialer has one.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// NewStream writes to w, one line a record: standard output for a container's log
// collector. Its Write returns what w's does; it does not close w.
func NewStream(w io.Writer) Writer { return stream{w} }

type stream struct{ w io.Writer }

func (s stream) Write(_ context.Context, lines []byte) error {
	_, err := s.w.Write(lines)
	return err
}

func (stream) Close() error { return nil }

// NewSocket sends lines to a collector over "tcp" or "unix". The kernel having taken
// them is all that Write's success means: these protocols confirm nothing. The
// connection is made at need and again after a failure; a group that failed halfway
// is sent again from its beginning, so that a collector may see a record twice, with
// the same seq. dialer nil means net.Dialer; pass a tls.Dialer for TLS.
func NewSocket(network, address string, dialer Dialer) Writer {
	if dialer == nil {
		dialer = &net.Dialer{}
	}
	return &socket{network: network, address: address, dialer: dialer}
}

type socket struct {
	network, address string
	dialer           Dialer
	conn             net.Conn
	gone             *atomic.Bool // the peer closed conn
}

func (s *socket) Write(ctx context.Context, lines []byte) error {
	fresh, err := s.connect(ctx)
	if err != nil {
		return err
	}
	err = s.send(ctx, lines)
	if err == nil || fresh || ctx.Err() != nil {
		return err
	}
	// The old connection may have died long ago, unnoticed.
	if _, again := s.connect(ctx); again != nil {
		return errors.Join(err, again)
	}
	return s.send(ctx, lines)
}

// connect makes a connection unless there is one that looks alive.
func (s *socket) connect(ctx context.Context) (fresh bool, err error) {
	if s.conn != nil && s.gone.Load() {
		s.drop()
	}
	if s.conn != nil {
		return false, nil
	}
	conn, err := s.dialer.DialContext(ctx, s.network, s.address)
	if err != nil {
		return false, fmt.Errorf("connecting to audit collector: %w", err)
	}
	gone := new(atomic.Bool)
	go func() {
		// A collector says nothing. Reading is how to hear that it hung up; otherwise
		// the first group after that would be lost without an error.
		_, _ = io.Copy(io.Discard, conn)
		gone.Store(true)
	}()
	s.conn, s.gone = conn, gone
	return true, nil
}

func (s *socket) send(ctx context.Context, lines []byte) error {
	until, _ := ctx.Deadline() // the zero time means none
	err := s.conn.SetWriteDeadline(until)
	if err == nil {
		_, err = s.conn.Write(lines)
	}
	if err != nil {
		s.drop()
		return fmt.Errorf("sending to audit collector: %w", err)
	}
	return nil
}

func (s *socket) drop() {
	// The connection is of no more use, whatever closing says.
	_ = s.conn.Close()
	s.conn = nil
}

func (s *socket) Close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}

// NewSyslog sends each record as one syslog message, facility authpriv, severity
// info. On a unix datagram socket ("unixgram", such as /dev/log) a message has the
// local form that syslog daemons and journald expect there; over "udp" it follows
// RFC 5424 and RFC 5426, over "tcp" RFC 5424 with the octet counting of RFC 6587. A
// datagram that was sent is not a datagram that arrived, and one too long for the
// socket is an error: where each record must count, use tcp, and NewSocket rather
// than this.
func NewSyslog(network, address, tag, host string, now func() time.Time, dialer Dialer) Writer {
	return &syslog{socket: NewSocket(network, address, dialer).(*socket), tag: tag, host: host, now: now}
}

type syslog struct {
	*socket
	tag, host string
	now       func() time.Time
}

const syslogPriority = "<86>" // authpriv (10) times 8 plus info (6)

func (s *syslog) Write(ctx context.Context, lines []byte) error {
	if s.network == "tcp" || s.network == "unix" {
		var framed []byte
		for record := range records(lines) {
			message := s.message(record)
			framed = fmt.Appendf(framed, "%d ", len(message))
			framed = append(framed, message...)
		}
		return s.socket.Write(ctx, framed)
	}
	for record := range records(lines) {
		if err := s.socket.Write(ctx, s.message(record)); err != nil {
			return err
		}
	}
	return nil
}

func (s *syslog) message(record []byte) []byte {
	now := s.now()
	if s.network == "unixgram" {
		return fmt.Appendf(nil, "%s%s %s: %s", syslogPriority, now.Format(time.Stamp), s.tag, record)
	}
	return fmt.Appendf(nil, "%s1 %s %s %s - - - %s", syslogPriority,
		now.UTC().Format("2006-01-02T15:04:05.000000Z07:00"), s.host, s.tag, record)
}
