package audit

import "time"

// A group costs an fsync, whatever its size, and on a busy machine that is most of
// what a record costs. So the writer does not take what waits as soon as the last
// group is durable: it lets the next one grow, for as long as that pays.
//
// It pays while requests are under way that do not wait for the log yet, for their
// records will be there soon. A request that is alone waits for nobody. And it pays
// for some times the cost of the last group at most: the log then spends a tenth of
// the time in fsync instead of all of it. No record waits longer than maxRest for
// company.
const (
	restFor = 10
	maxRest = 5 * time.Millisecond
)

// Enter says that a request is under way that will append a record soon, and Leave
// that it will not: it has, or something that takes longer comes first. The log then
// knows whom to wait for. Without them it waits for nobody.
func (l *Log) Enter() { l.under.Add(1) }

// Leave ends what Enter began.
func (l *Log) Leave() { l.under.Add(-1) }

// enough tells whether nobody is under way who does not wait for the log. l.mu is held.
func (l *Log) enough() bool { return int64(len(l.queue)) >= l.under.Load() }

// gather returns when what waits should be written.
func (l *Log) gather() {
	rest := min(maxRest, restFor*l.ended.Sub(l.began)) - time.Since(l.ended)
	if rest <= 0 {
		return
	}
	l.mu.Lock()
	l.gathering = len(l.queue) > 0 && !l.enough()
	wait := l.gathering
	l.mu.Unlock()
	if !wait {
		return
	}
	select {
	case <-l.wake: // of a record that came before, and was counted
	default:
	}
	l.patient.Reset(rest)
	select {
	case <-l.wake:
	case <-l.patient.C:
	case <-l.closing:
	}
	l.mu.Lock()
	l.gathering = false
	l.mu.Unlock()
}
