package testprocess

import (
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// SearchMemory looks for canaries in all memory that the node's process can write,
// and tells of each find with the line of /proc/PID/maps that it lies in. It takes
// root: an error wrapping fs.ErrPermission without.
func (n *Node) SearchMemory(c *Canaries, found func(f Find, region string)) (err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", n.PID()))
	if err != nil {
		return err
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", n.PID()))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, memory.Close()) }()
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			return fmt.Errorf("reading the memory map of %s: %w", n.Name, err)
		}
		if !strings.HasPrefix(mode, "rw") || strings.Contains(line, "[v") {
			continue
		}
		finds, err := c.SearchReader(io.NewSectionReader(memory, int64(from), int64(to-from)))
		if err != nil && !errors.Is(err, syscall.EIO) { // a page that cannot be read holds nothing of ours
			return fmt.Errorf("searching the memory of %s: %w", n.Name, err)
		}
		for _, f := range finds {
			found(f, strings.TrimSpace(line))
		}
	}
	return nil
}

// Usage is what a process holds of the system.
type Usage struct {
	Descriptors int
	Threads     int
}

// Usage counts what the node's process holds now.
func (n *Node) Usage() (u Usage, err error) {
	for what, count := range map[string]*int{"fd": &u.Descriptors, "task": &u.Threads} {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", n.PID(), what))
		if err != nil {
			return u, fmt.Errorf("counting what %s holds: %w", n.Name, err)
		}
		*count = len(list)
	}
	return u, nil
}

// ShareValue is the 32 bytes in the text of a share.
func ShareValue(text string) ([]byte, error) {
	fields := strings.Split(text, "-")
	if len(fields) < 7 {
		return nil, errors.New("reading a share: it has an unexpected form")
	}
	letters := strings.ToUpper(strings.Join(fields[5:len(fields)-1], ""))
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(letters)
	if err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("reading a share: it has an unexpected value of %d bytes", len(raw))
	}
	return raw, nil
}
