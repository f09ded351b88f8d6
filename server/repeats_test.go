package server

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// limited is a log without times, and without repetitions.
func limited(log io.Writer) (*repeats, *slog.Logger) {
	r := newRepeats(afterFunc)
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	return r, r.logger(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{ReplaceAttr: noTime})))
}

// A message that repeats is logged at once and then by its number, with what
// it said last; another message, peer or part is not touched by it.
func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r, root := limited(&log)
		raft := root.With("part", "cluster").With("part", "raft")
		raft.Warn("no heartbeat", "peer", "a", "backoff", 1)
		raft.Warn("no heartbeat", "peer", "b", "backoff", 1)
		raft.Info("no heartbeat", "peer", "a")
		for i := range 9 {
			time.Sleep(time.Second) // virtual
			raft.Warn("no heartbeat", "peer", "a", "backoff", i)
		}
		root.With("part", "peer").Warn("x")
		root.With("part", "peer").Warn("x")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		want := `level=WARN msg="no heartbeat" part=cluster part=raft peer=a backoff=1
level=WARN msg="no heartbeat" part=cluster part=raft peer=b backoff=1
level=INFO msg="no heartbeat" part=cluster part=raft peer=a
level=WARN msg=x part=peer
level=WARN msg=x part=peer
level=WARN msg="no heartbeat" part=cluster part=raft peer=a backoff=8 repeated=9 within=10s
`
		if got := log.String(); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		// Once it has stopped it is news again.
		log.Reset()
		time.Sleep(time.Minute)
		synctest.Wait()
		raft.Warn("no heartbeat", "peer", "a", "backoff", 1)
		if want := "level=WARN msg=\"no heartbeat\" part=cluster part=raft peer=a backoff=1\n"; log.String() != want {
			t.Errorf("after a pause: got %q, want %q", &log, want)
		}
		r.close()
	})
}

// Whatever comes, every message is in the log or in a number there, and the log
// stays short: a peer that is down for a day is no more than a line in ten
// minutes.
func TestRepeatsLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r, root := limited(&log)
		raft := root.With("part", "raft")
		const sent = 24 * 60 * 60 * 2
		for range sent {
			raft.Warn("no heartbeat", "peer", "a")
			time.Sleep(500 * time.Millisecond) // virtual
		}
		synctest.Wait()
		r.close()
		lines := strings.Count(log.String(), "\n")
		if lines < 24*6 || lines > 24*6+20 {
			t.Errorf("%d lines in a day", lines)
		}
		if got := told(t, log.String()); got != sent {
			t.Errorf("the log accounts for %d messages, want %d", got, sent)
		}
	})
}

// told is how many messages a log accounts for.
func told(t *testing.T, log string) int {
	t.Helper()
	all := 0
	number := regexp.MustCompile(`repeated=(\d+)`)
	for line := range strings.Lines(log) {
		m := number.FindStringSubmatch(line)
		if m == nil {
			all++
			continue
		}
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		all += n
	}
	return all
}

// The memory is bounded, what does not fit is logged, and what was left out is
// told at the end at the latest; after it nothing is held back.
func TestRepeatsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r, root := limited(&log)
		raft := root.With("part", "raft")
		var all sync.WaitGroup
		const each, kinds = 3, 2 * repeatsKept
		for i := range kinds {
			all.Go(func() {
				for range each {
					raft.Warn(fmt.Sprintf("message %d", i))
				}
			})
		}
		all.Wait()
		if n := len(r.recent); n != repeatsKept {
			t.Errorf("%d messages are remembered, want %d", n, repeatsKept)
		}
		r.close()
		for range 2 {
			raft.Warn("message 0")
		}
		if got := told(t, log.String()); got != each*kinds+2 {
			t.Errorf("the log accounts for %d messages, want %d", got, each*kinds+2)
		}
		if !strings.HasSuffix(log.String(), "level=WARN msg=\"message 0\" part=raft\nlevel=WARN msg=\"message 0\" part=raft\n") {
			t.Error("after the end something is held back")
		}
	})
}
