package fabric

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// mtu of the devices, in bytes: larger than Ethernet's, because each packet
// costs two system calls here.
const mtu = 9000

// A namespace is a network namespace with its device up, kept by file
// descriptors and one thread.
type namespace struct {
	ns   *os.File      // of the namespace
	tun  *os.File      // the switch's end of the device
	jobs chan func()   // for the thread
	gone chan struct{} // closed when the thread has ended
}

// newNamespace makes a namespace whose device has an address. It keeps a thread
// there, because a child with a death signal dies with the thread that made it.
func newNamespace(address netip.Prefix) (*namespace, error) {
	n := &namespace{jobs: make(chan func()), gone: make(chan struct{})}
	made := make(chan error)
	go func() {
		// Never unlocked: the runtime ends a thread whose goroutine ends locked, so
		// no other goroutine ever runs in the namespace.
		runtime.LockOSThread()
		defer close(n.gone)
		err := n.make(address)
		made <- err
		if err != nil {
			return
		}
		for job := range n.jobs {
			job()
		}
	}()
	if err := <-made; err != nil {
		<-n.gone
		return nil, errors.Join(fmt.Errorf("making a network namespace for %v: %w", address.Addr(), err), n.closeFiles())
	}
	return n, nil
}

// make runs on the thread.
func (n *namespace) make(address netip.Prefix) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("leaving the network namespace: %w", err)
	}
	if n.ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if n.tun, err = openTUN(); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	return errors.Join(raise(fd, "lo"), addressed(fd, address), raise(fd, device))
}

// device is what the TUN is called in each namespace.
const device = "fabric0"

func openTUN() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening /dev/net/tun: %w", err)
	}
	err = ioctl(fd, "making a TUN device", unix.TUNSETIFF, device, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return nil
	})
	if err == nil {
		// Only now: a descriptor that is polled before it has a device stays deaf.
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

func addressed(fd int, address netip.Prefix) error {
	mask := netip.AddrFrom4([4]byte{255, 255, 255, 0}) // the fabric's subnets are /24
	return errors.Join(
		ioctl(fd, "setting the address", unix.SIOCSIFADDR, device, func(r *unix.Ifreq) error { return r.SetInet4Addr(address.Addr().AsSlice()) }),
		ioctl(fd, "setting the mask", unix.SIOCSIFNETMASK, device, func(r *unix.Ifreq) error { return r.SetInet4Addr(mask.AsSlice()) }),
		ioctl(fd, "setting the MTU", unix.SIOCSIFMTU, device, func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil }))
}

func raise(fd int, name string) error {
	return ioctl(fd, "bringing the device up", unix.SIOCSIFFLAGS, name, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return nil
	})
}

func ioctl(fd int, what string, request uint, name string, fill func(*unix.Ifreq) error) error {
	r, err := unix.NewIfreq(name)
	if err == nil {
		err = fill(r)
	}
	if err == nil {
		err = unix.IoctlIfreq(fd, request, r)
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w", what, name, err)
	}
	return nil
}

// do runs f on the namespace's own thread.
func (n *namespace) do(f func() error) error {
	done := make(chan error, 1)
	n.jobs <- func() { done <- f() }
	return <-done
}

// visit runs f, which may wait, on a thread of its own in the namespace.
func (n *namespace) visit(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: see newNamespace
		if err := unix.Setns(int(n.ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

func (n *namespace) close() error {
	close(n.jobs)
	<-n.gone
	return n.closeFiles()
}

func (n *namespace) closeFiles() error {
	var errs []error
	for _, f := range []*os.File{n.ns, n.tun} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
