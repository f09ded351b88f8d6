package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
)

// What "dev" tells of a node that ended: the last things in its log that are
// no everyday news, each once.
const (
	logTailBytes = 64 << 10
	logTailLines = 6
)

var (
	// everyday is a line of the log that says that all is well, or that the
	// Raft library goes about its business of trying.
	everyday = regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO) |^time=\S+ level=WARN .* part=raft( |$)`)
	// logged splits a line of the log: level and message, then the rest.
	logged = regexp.MustCompile(`^time=\S+ (level=\S+ msg=(?:"(?:[^"\\]|\\.)*"|\S+))`)
	// counted is how the server itself says that it left repetitions out.
	counted = regexp.MustCompile(` repeated=(\d+)`)
)

// lastWords picks from the end of a log what explains an end. Lines with the
// same level and message are one, the last of them, with their number.
func lastWords(tail []byte) []string {
	var order []string
	text, times := map[string]string{}, map[string]int{}
	for _, raw := range bytes.Split(bytes.TrimRight(tail, "\n"), []byte("\n")) {
		line := string(raw)
		if everyday.MatchString(line) || strings.TrimSpace(line) == "" {
			continue
		}
		key, n := line, 1
		if m := logged.FindStringSubmatch(line); m != nil {
			key = m[1]
		}
		if m := counted.FindStringSubmatch(line); m != nil {
			if _, err := fmt.Sscan(m[1], &n); err != nil {
				n = 1 // more digits than a number has
			}
			line = counted.ReplaceAllString(line, "")
		}
		if times[key] > 0 {
			order = remove(order, key)
		}
		order = append(order, key)
		text[key], times[key] = line, times[key]+n
	}
	var out []string
	for _, key := range order[max(0, len(order)-logTailLines):] {
		line := text[key]
		if times[key] > 1 {
			line += fmt.Sprintf(" (repeated %d times)", times[key]-1)
		}
		out = append(out, line)
	}
	return out
}

func remove(all []string, one string) []string {
	out := all[:0]
	for _, each := range all {
		if each != one {
			out = append(out, each)
		}
	}
	return out
}

// lastBytes returns the end of a file, from the beginning of a line, or nothing
// when it cannot be read: it only adds to an error that is being told already.
func lastBytes(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	whole := true
	if info, err := f.Stat(); err == nil && info.Size() > logTailBytes {
		if _, err := f.Seek(-logTailBytes, io.SeekEnd); err != nil {
			return nil
		}
		whole = false
	}
	tail, err := io.ReadAll(f)
	if err != nil {
		return nil
	}
	if !whole {
		_, tail, _ = bytes.Cut(tail, []byte("\n"))
	}
	return tail
}

// namedLines puts a node's name before each line of its log. One goroutine
// writes to it.
type namedLines struct {
	name string
	to   io.Writer
	rest []byte // of a line that has not ended
}

func (w *namedLines) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	end := bytes.LastIndexByte(w.rest, '\n') + 1
	if end == 0 {
		return len(p), nil
	}
	var out bytes.Buffer
	for line := range bytes.Lines(w.rest[:end]) {
		fmt.Fprintf(&out, "%s: %s", w.name, line)
	}
	w.rest = append([]byte(nil), w.rest[end:]...)
	if _, err := w.to.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}

// oneAtATime lets several nodes write whole lines to one place.
type oneAtATime struct {
	mu sync.Mutex
	to io.Writer
}

func (w *oneAtATime) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}
