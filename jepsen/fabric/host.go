package fabric

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"syscall"
)

// A Host is one end of the network.
type Host struct {
	Address   netip.Addr // 10.77.0.N
	namespace *namespace
}

func newHost(index int) (*Host, error) {
	address := netip.AddrFrom4([4]byte{10, 77, 0, byte(index + 1)})
	n, err := newNamespace(netip.PrefixFrom(address, 24))
	if err != nil {
		return nil, err
	}
	return &Host{Address: address, namespace: n}, nil
}

// Start starts a command on the host. Its network is the fabric and nothing
// else; its files and its user are those of this process. It is killed when the
// fabric is closed or this process ends.
func (h *Host) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := h.namespace.do(cmd.Start); err != nil {
		return fmt.Errorf("starting a process at %v: %w", h.Address, err)
	}
	return nil
}

// DialContext connects from the host. The address must be an IP address and a port:
// nobody answers names here.
func (h *Host) DialContext(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dialling from %v: %w", h.Address, err)
	}
	err = h.namespace.visit(func() (err error) {
		// A dialer opens its socket on the thread that calls it as long as it has one
		// address to try.
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on a TCP port of the host.
func (h *Host) Listen(ctx context.Context, port uint16) (l net.Listener, err error) {
	err = h.namespace.visit(func() (err error) {
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", netip.AddrPortFrom(h.Address, port).String())
		return err
	})
	return l, err
}

// ListenPacket opens a UDP port of the host.
func (h *Host) ListenPacket(ctx context.Context, port uint16) (c net.PacketConn, err error) {
	err = h.namespace.visit(func() (err error) {
		c, err = new(net.ListenConfig).ListenPacket(ctx, "udp", netip.AddrPortFrom(h.Address, port).String())
		return err
	})
	return c, err
}
