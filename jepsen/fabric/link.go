package fabric

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A link is one direction between two hosts.
type link struct {
	to *Host

	passed, dropped, delayed, duplicated, reordered, bytes atomic.Uint64

	mu     sync.Mutex
	dice   *rand.Rand // guarded by mu
	faults []*Fault   // guarded by mu
	sent   uint64     // guarded by mu; packets, which numbers them
	newest uint64     // guarded by mu; the highest number delivered
	last   time.Time  // guarded by mu; when the last packet is due that keeps its order
}

// A parcel is a packet on its way.
type parcel struct {
	link   *link
	packet []byte
	number uint64
	due    time.Time
	order  uint64   // among parcels of one due time
	held   []*Fault // that had others overtake it
}

func (l *link) add(x *Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(slices.Clone(l.faults), x)
}

func (l *link) remove(x *Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = slices.DeleteFunc(slices.Clone(l.faults), func(y *Fault) bool { return x == y })
}

// A fate is what the faults of a link make of one packet.
type fate struct {
	drop, twice bool
	delay, hold time.Duration
	held        []*Fault
}

// suffer draws what happens to a packet. Callers hold mu.
func (l *link) suffer(class Class, size int) (f fate) {
	for _, x := range l.faults {
		e := &x.effect
		if e.Class&class == 0 {
			continue
		}
		if e.Cut || e.Loss > 0 && l.dice.Float64() < e.Loss {
			x.dropped.Add(1)
			return fate{drop: true}
		}
		if d := e.Delay + l.upTo(e.Jitter); d > 0 {
			x.delayed.Add(1)
			f.delay += d
		}
		if e.Duplicate > 0 && l.dice.Float64() < e.Duplicate {
			x.duplicated.Add(1)
			f.twice = true
		}
		if e.Reorder > 0 && l.dice.Float64() < e.Reorder {
			f.hold += l.upTo(e.Hold)
			f.held = append(f.held, x)
		}
		x.passed.Add(1)
		x.bytes.Add(uint64(size))
	}
	return f
}

func (l *link) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(l.dice.Int64N(int64(d)))
}

// send passes a packet on, now or later. It does not keep the packet.
func (l *link) send(q *queue, packet []byte, class Class) {
	l.mu.Lock()
	f := l.suffer(class, len(packet))
	if f.drop {
		l.mu.Unlock()
		l.dropped.Add(1)
		return
	}
	l.sent++
	now := time.Now()
	p := &parcel{link: l, number: l.sent, due: now.Add(f.delay), held: f.held}
	if p.due.Before(l.last) {
		p.due = l.last // jitter alone keeps the order
	}
	if f.hold > 0 {
		p.due = p.due.Add(f.hold)
	} else {
		l.last = p.due
	}
	l.mu.Unlock()
	if f.delay > 0 {
		l.delayed.Add(1)
	}
	if f.twice {
		l.duplicated.Add(1)
	}
	if !p.due.After(now) && f.hold == 0 {
		p.packet = packet
		p.deliver()
		if f.twice {
			p.deliver()
		}
		return
	}
	p.packet = slices.Clone(packet)
	q.add(p)
	if f.twice {
		again := *p
		q.add(&again)
	}
}

// deliver hands the packet to the host.
func (p *parcel) deliver() {
	l := p.link
	l.mu.Lock()
	if p.number < l.newest {
		l.reordered.Add(1)
		for _, x := range p.held {
			x.reordered.Add(1)
		}
	}
	l.newest = max(l.newest, p.number)
	l.mu.Unlock()
	if _, err := l.to.namespace.tun.Write(p.packet); err != nil {
		// The host's queue is full or the fabric is being closed: networks lose packets.
		l.dropped.Add(1)
		return
	}
	l.passed.Add(1)
	l.bytes.Add(uint64(len(p.packet)))
}
