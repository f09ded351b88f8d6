package audit

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// copier runs one sink: a goroutine that may hang, and everybody else, who may not.
type copier struct {
	account
	cfg   Sink
	queue chan *delivery
	done  chan struct{} // closed when the goroutine has ended
	busy  atomic.Int64  // when the write under way began, Unix nanoseconds; 0 if none is
}

// delivery is a group on its way to one sink.
type delivery struct {
	lines   []byte // shared by all sinks, read only
	records int
	result  chan error  // nil if nobody waits
	settled atomic.Bool // whoever sets it decides whether the group was in time
}

// queueGroups bounds the groups that wait for a sink, beside the bound on their bytes.
const queueGroups = 1024

func startCopier(cfg Sink, now func() time.Time, notify func(Event)) *copier {
	if cfg.Deadline <= 0 {
		cfg.Deadline = 2 * time.Second
	}
	if cfg.Buffer <= 0 {
		cfg.Buffer = 8 << 20
	}
	c := &copier{
		account: account{now: now, notify: notify, name: cfg.Name, strict: cfg.Strictness},
		cfg:     cfg, queue: make(chan *delivery, queueGroups), done: make(chan struct{}),
	}
	go c.run()
	return c
}

func (c *copier) run() {
	defer close(c.done)
	for d := range c.queue {
		c.deliver(d)
	}
	if err := c.cfg.Writer.Close(); err != nil {
		c.notify(Event{Kind: EventFailed, Sink: c.name, Err: fmt.Errorf("closing: %w", err)})
	}
}

func (c *copier) deliver(d *delivery) {
	c.busy.Store(c.now().UnixNano())
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Deadline)
	err := c.cfg.Writer.Write(ctx, d.lines)
	cancel()
	c.busy.Store(0)
	c.waiting.Add(-int64(len(d.lines)))
	if err != nil {
		c.failed(d.records, err)
	} else {
		c.delivered(d.records, len(d.lines))
	}
	switch {
	case d.result == nil:
	case d.settled.CompareAndSwap(false, true):
		d.result <- err
	default:
		c.hung.Store(false) // await gave up; the sink answers again
	}
}

// offer hands lines over without waiting. For a required sink, await has the result.
func (c *copier) offer(lines []byte, records int) *delivery {
	d := &delivery{lines: lines, records: records}
	refused := c.waiting.Load() > int64(c.cfg.Buffer)
	if c.strict == Required {
		d.result = make(chan error, 1)
		refused = c.hung.Load()
	}
	if !refused {
		c.waiting.Add(int64(len(lines)))
		select {
		case c.queue <- d:
			return d
		default:
			c.waiting.Add(-int64(len(lines)))
		}
	}
	c.drop(records)
	if d.result != nil {
		d.settled.Store(true)
		d.result <- ErrHung
	}
	return d
}

// await returns when a required sink has answered or its deadline, counted from
// began, is over.
func (c *copier) await(d *delivery, began time.Time) error {
	late := time.NewTimer(c.cfg.Deadline - time.Since(began))
	defer late.Stop()
	select {
	case err := <-d.result:
		return err
	case <-late.C:
	}
	// The flag goes up before the verdict falls, so that the goroutine, if it loses,
	// lowers it afterwards and never before.
	c.hung.Store(true)
	if !d.settled.CompareAndSwap(false, true) {
		c.hung.Store(false)
		return <-d.result
	}
	c.late(ErrHung)
	return ErrHung
}

func (c *copier) status() Status {
	s := c.account.status()
	began := c.busy.Load()
	if began != 0 && c.now().Sub(time.Unix(0, began)) > c.cfg.Deadline {
		s.State = StateHung
	}
	return s
}

// ended waits, after the queue was closed at began, until what is in it was
// delivered. A sink that takes longer than its deadline is left behind.
func (c *copier) ended(began time.Time) error {
	late := time.NewTimer(c.cfg.Deadline - time.Since(began))
	defer late.Stop()
	select {
	case <-c.done:
		return nil
	case <-late.C:
		return &SinkError{Sink: c.name, Err: ErrHung}
	}
}
