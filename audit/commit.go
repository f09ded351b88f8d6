package audit

import (
	"bytes"
	"errors"
	"time"
)

// run is the one goroutine that writes.
func (l *Log) run() {
	defer close(l.closed)
	for {
		select {
		case <-l.wake:
			for l.gather(); l.take(); l.gather() {
				l.commit()
			}
		case c := <-l.commands:
			c.done <- l.obey(c.run)
		case <-l.closing:
			for l.take() {
				l.commit()
			}
			l.closeErr = l.end()
			return
		}
	}
}

func (l *Log) obey(run func(*file) error) error {
	l.watch.begin(nil)
	err := l.file.ready(0)
	if err == nil {
		if err = run(l.file); err != nil && l.file.moved != "" {
			err = l.file.fail(err)
		}
	}
	l.watch.end()
	l.publish()
	if l.file.fault != nil {
		l.account.failed(0, err)
	}
	_ = l.spread(nil, 0) // the file has the header; what a copy lacks is in its status
	return err
}

func (l *Log) end() error {
	began := time.Now()
	for _, c := range l.copiers {
		close(c.queue)
	}
	var all []error
	for _, c := range l.copiers {
		all = append(all, c.ended(began))
	}
	// Everything is synced already.
	return errors.Join(append(all, l.file.f.Close())...)
}

// take moves the front of the queue into the group, and tells whether anything is in it.
func (l *Log) take() bool {
	l.group = l.group[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size := 0, 0
	for n < len(l.queue) && size < maxGroup {
		p := l.queue[n]
		l.queue[n] = nil
		n++
		if !p.state.CompareAndSwap(waiting, taken) {
			<-l.slots // its caller has left
			continue
		}
		size += len(p.body) + 256
		l.group = append(l.group, p)
	}
	l.queue = l.queue[n:]
	if len(l.queue) == 0 {
		l.queue = nil
	}
	return len(l.group) > 0
}

// commit writes the group: into the file, and then to the copies, so that no copy
// has a record that the chain lacks.
func (l *Log) commit() {
	l.watch.begin(l.group)
	l.began = time.Now()
	n := len(l.group)
	err := l.write()
	l.ended = time.Now()
	if l.watch.end() {
		l.group = nil // the callers were told already; what became durable after all stays
	}
	l.publish()
	if err != nil {
		l.file.lost += uint64(n)
		err = l.excuse(err)
		_ = l.spread(nil, 0) // the group's fate is decided
	} else {
		err = l.spread(l.lines, n)
	}
	l.finish(err)
}

// write writes the group into the file.
func (l *Log) write() error {
	n := len(l.group)
	err := l.file.ready(l.estimate())
	if err == nil && l.watch.over() {
		err = ErrHung // nobody waits for these records any more
	}
	if err == nil {
		head := l.file.head
		l.lines = l.lines[:0]
		for i, p := range l.group {
			l.lines, head = seal(l.lines, head, i == 0, p.body)
		}
		err = l.file.write(l.lines, head)
	}
	if err != nil {
		l.account.failed(n, err)
		return err
	}
	l.account.delivered(n, len(l.lines))
	return nil
}

func (l *Log) estimate() int {
	n := 0
	for _, p := range l.group {
		n += len(p.body) + tailLen + hexLen + 48
	}
	return n
}

// spread sends what the file wrote of its own, and then lines, to the copies. It
// returns the failure of a required one.
func (l *Log) spread(lines []byte, records int) error {
	if len(l.copiers) == 0 {
		l.file.self = l.file.self[:0]
		return nil
	}
	if len(l.file.self) > 0 {
		lines = append(l.file.self, lines...)
		l.file.self = nil
	} else {
		lines = bytes.Clone(lines)
	}
	if len(lines) == 0 {
		return nil
	}
	l.verdict = l.verdict[:0]
	for _, c := range l.copiers {
		l.verdict = append(l.verdict, c.offer(lines, records))
	}
	var first error
	began := time.Now()
	for i, c := range l.copiers {
		if c.strict != Required {
			continue
		}
		if err := c.await(l.verdict[i], began); err != nil && first == nil {
			first = &SinkError{Sink: c.name, Err: err}
		}
	}
	return first
}

func (l *Log) finish(err error) {
	for _, p := range l.group {
		if p.state.CompareAndSwap(taken, finished) {
			p.done <- result{err, true}
		}
		<-l.slots
	}
}

// publish shows others what is durable.
func (l *Log) publish() {
	h := l.file.head
	l.head.Store(&h)
	l.size.Store(l.file.size)
}
