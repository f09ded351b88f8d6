package testprocess

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// A Tap stands between others and one address of a node: it passes everything
// on, TCP and UDP, and writes what it saw to a file. Nodes advertise the tap in
// the node's stead.
type Tap struct {
	// Address is what others dial instead of the node.
	Address string
	// Streams and Datagrams count what was passed on, TCP and UDP, in bytes.
	Streams, Datagrams atomic.Int64

	to       string
	listener net.Listener
	packets  net.PacketConn
	forward  net.Conn // UDP to the node
	work     sync.WaitGroup

	mu    sync.Mutex
	file  *os.File              // guarded by mu
	conns map[net.Conn]struct{} // guarded by mu
	err   error                 // guarded by mu; the first failure to record
}

// Record begins to pass on what arrives at a new address to the address to,
// and to write it to the file at path. The caller must Close the tap.
func Record(to, path string) (*Tap, error) {
	addresses, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	t := &Tap{Address: addresses[0], to: to, conns: map[net.Conn]struct{}{}}
	if err := t.open(path); err != nil {
		return nil, errors.Join(fmt.Errorf("recording what goes to %s: %w", to, err), t.Close())
	}
	t.work.Go(t.acceptStreams)
	t.work.Go(t.passDatagrams)
	return t, nil
}

func (t *Tap) open(path string) (err error) {
	if t.file, err = os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	if t.listener, err = net.Listen("tcp", t.Address); err != nil {
		return err
	}
	if t.packets, err = net.ListenPacket("udp", t.Address); err != nil {
		return err
	}
	t.forward, err = net.Dial("udp", t.to)
	return err
}

// write records one piece. A recording with holes proves nothing, so Close
// tells of a failure.
func (t *Tap) write(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.file.Write(p); err != nil && t.err == nil {
		t.err = fmt.Errorf("recording: %w", err)
	}
}

func (t *Tap) acceptStreams() {
	for {
		from, err := t.listener.Accept()
		if err != nil {
			return // closed
		}
		to, err := net.Dial("tcp", t.to)
		if err != nil {
			_ = from.Close() // the node is down: that is what its peers must see
			continue
		}
		if !t.keep(from, to) {
			return
		}
		t.work.Go(func() { t.copy(to, from) })
		t.work.Go(func() { t.copy(from, to) })
	}
}

// keep notes connections that Close must end; false: it has come already.
func (t *Tap) keep(conns ...net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range conns {
		if t.conns == nil {
			_ = c.Close()
			continue
		}
		t.conns[c] = struct{}{}
	}
	return t.conns != nil
}

// copy passes one direction on and ends both when it ends.
func (t *Tap) copy(to, from net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			t.Streams.Add(int64(n))
			t.write(buffer[:n])
			if _, werr := to.Write(buffer[:n]); werr != nil {
				break
			}
		}
		if err != nil {
			break // the end or a broken connection: the other side sees it too
		}
	}
	_, _ = to.Close(), from.Close()
}

// passDatagrams passes on one way. Answers go to what the asker advertises,
// which is its own tap.
func (t *Tap) passDatagrams() {
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := t.packets.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if n == 0 {
			continue
		}
		t.Datagrams.Add(int64(n))
		t.write(buffer[:n])
		_, _ = t.forward.Write(buffer[:n]) // UDP may lose it; the node may be down
	}
}

// Close ends all connections and the recording. It reports a recording that is
// not whole.
func (t *Tap) Close() error {
	var errs []error
	closeOne := func(c io.Closer) {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if t.listener != nil {
		closeOne(t.listener)
	}
	if t.packets != nil {
		closeOne(t.packets)
	}
	if t.forward != nil {
		closeOne(t.forward)
	}
	t.mu.Lock()
	conns := t.conns
	t.conns = nil
	t.mu.Unlock()
	for c := range conns {
		_ = c.Close() // most have ended by themselves
	}
	t.work.Wait()
	if t.file != nil {
		errs = append(errs, t.err, t.file.Close())
	}
	return errors.Join(errs...)
}
