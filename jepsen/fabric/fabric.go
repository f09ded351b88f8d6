package fabric

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
)

// Options says what network to make.
type Options struct {
	Hosts int              // at most 250
	Seed  uint64           // of what happens to packets
	Ports map[uint16]Class // by number, TCP and UDP
}

// A Fabric is a network of hosts that reaches nobody else. It is safe for
// concurrent use.
type Fabric struct {
	Hosts []*Host

	ports   map[uint16]Class
	links   [][]*link // by from and to
	index   map[netip.Addr]int
	queue   *queue
	readers sync.WaitGroup
	strays  atomic.Uint64 // packets to nobody
	ending  sync.Once
	ended   error
}

// New makes a network. The caller must Close it. Where there is none to be had,
// the error wraps ErrUnavailable and says what is missing.
func New(o Options) (f *Fabric, err error) {
	if err := Available(); err != nil {
		return nil, err
	}
	if o.Hosts < 1 || o.Hosts > 250 {
		return nil, fmt.Errorf("making a network of %d hosts: from 1 to 250 are possible", o.Hosts)
	}
	f = &Fabric{ports: o.Ports, index: map[netip.Addr]int{}, queue: newQueue()}
	for i := range o.Hosts {
		h, err := newHost(i)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		f.Hosts = append(f.Hosts, h)
		f.index[h.Address] = i
	}
	f.links = make([][]*link, o.Hosts)
	for from := range f.links {
		for to, h := range f.Hosts {
			f.links[from] = append(f.links[from], &link{to: h, dice: rand.New(rand.NewPCG(o.Seed, uint64(from*o.Hosts+to+1)))})
		}
	}
	for i := range f.Hosts {
		f.readers.Go(func() { f.switchFrom(i) })
	}
	return f, nil
}

// switchFrom passes on what one host sends.
func (f *Fabric) switchFrom(from int) {
	buffer := make([]byte, mtu+100)
	for {
		n, err := f.Hosts[from].namespace.tun.Read(buffer)
		if err != nil {
			return // closed
		}
		address, ok := destination(buffer[:n])
		if !ok {
			continue // the kernel's own talk over IPv6
		}
		to, ok := f.index[address]
		if !ok {
			f.strays.Add(1)
			continue
		}
		f.links[from][to].send(f.queue, buffer[:n], classOf(buffer[:n], f.ports))
	}
}

// Strays are the packets that were sent to no host of the network.
func (f *Fabric) Strays() uint64 { return f.strays.Load() }

// Counts is what happened in one direction since the beginning.
func (f *Fabric) Counts(p Pair) Counts {
	l := f.links[p.From][p.To]
	return Counts{l.passed.Load(), l.dropped.Load(), l.delayed.Load(), l.duplicated.Load(), l.reordered.Load(), l.bytes.Load()}
}

// Heal lifts every fault.
func (f *Fabric) Heal() {
	for _, row := range f.links {
		for _, l := range row {
			l.mu.Lock()
			l.faults = nil
			l.mu.Unlock()
		}
	}
}

// Close ends the network. Processes that were started on its hosts and still
// run are killed by the kernel. To close twice is to close once.
func (f *Fabric) Close() error {
	f.ending.Do(func() { f.ended = f.close() })
	return f.ended
}

func (f *Fabric) close() error {
	f.queue.close()
	var errs []error
	for _, h := range f.Hosts {
		if err := h.namespace.close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, err)
		}
	}
	f.readers.Wait()
	return errors.Join(errs...)
}
