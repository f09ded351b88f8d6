package seal

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

// Key memory lies outside the Go heap in a mapping that the kernel reports as
// locked and left out of dumps, or a warning says why not.
func TestKeyMemoryIsLocked(t *testing.T) {
	m := newLockedMemory(100)
	defer func() {
		if err := m.release(); err != nil {
			t.Error(err)
		}
	}()
	if runtime.GOOS != "linux" || m.warning != "" {
		if m.warning == "" {
			t.Fatal("memory that is not locked carries no warning")
		}
		t.Skip(m.warning)
	}
	flags := mappingFlags(t, uintptr(unsafe.Pointer(&m.bytes[0])))
	for _, want := range []string{"lo", "dd"} { // proc(5): locked, do not dump
		if !strings.Contains(" "+flags+" ", " "+want+" ") {
			t.Errorf("the mapping has flags %q, want %q among them", flags, want)
		}
	}
}

func mappingFlags(t *testing.T, address uintptr) string {
	t.Helper()
	p, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	inside := false
	for s := bufio.NewScanner(bytes.NewReader(p)); s.Scan(); {
		var from, to uintptr
		if n, err := fmt.Sscanf(s.Text(), "%x-%x ", &from, &to); n == 2 && err == nil {
			inside = from <= address && address < to
		}
		if flags, ok := strings.CutPrefix(s.Text(), "VmFlags:"); ok && inside {
			return strings.TrimSpace(flags)
		}
	}
	t.Skip("the kernel does not report the mapping's flags")
	return ""
}

// Released memory is wiped before it goes, may be released again, and a key that
// was on the heap for want of better is zero afterwards.
func TestReleaseWipes(t *testing.T) {
	m := onHeap(8, "for the test")
	kept := m.bytes
	copy(kept, "canary")
	for range 2 {
		if err := m.release(); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(kept, make([]byte, 8)) {
		t.Error("the memory still holds the key")
	}
}

// A keyring whose versions repeat, go back, are 0 or lack the active one is
// malformed, although its length is right.
func TestKeyringVersionsAscend(t *testing.T) {
	encode := func(active uint32, versions ...uint32) []byte {
		p := make([]byte, keyringHeaderSize+len(versions)*dataKeyEntrySize)
		p[0] = formatKeyring1
		binary.BigEndian.PutUint32(p[keyringHeaderSize-8:], active)
		binary.BigEndian.PutUint32(p[keyringHeaderSize-4:], uint32(len(versions)))
		for i, v := range versions {
			binary.BigEndian.PutUint32(p[keyringHeaderSize+i*dataKeyEntrySize:], v)
		}
		return p
	}
	for _, c := range []struct {
		p    []byte
		want error
	}{
		{encode(1, 1), nil}, {encode(3, 1, 3), nil}, {encode(1, 1, 3), nil},
		{encode(1, 1, 1), ErrFormat}, {encode(1, 3, 1), ErrFormat}, {encode(0, 0), ErrFormat},
		{encode(2, 1, 3), ErrFormat}, {encode(1), ErrFormat}, {append([]byte{2}, encode(1, 1)[1:]...), ErrNewerFormat},
	} {
		k := &Keyring{memory: onHeap(1, ""), data: map[uint32][]byte{}}
		if err := k.parse(c.p); !errors.Is(err, c.want) {
			t.Errorf("%x: got %v, want %v", c.p[keyringHeaderSize-8:], err, c.want)
		}
	}
}

// The fallback on the heap serves: a keyring works there and warns.
func TestKeyringOnHeapWarns(t *testing.T) {
	made, err := Init(rand.Reader, ClusterID{}, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	heap := onHeap(len(made.Keyring.memory.bytes), "keys may be swapped")
	copy(heap.bytes, made.Keyring.memory.bytes)
	if err := made.Keyring.Wipe(); err != nil {
		t.Fatal(err)
	}
	k, err := parseKeyring(heap)
	if err != nil {
		t.Fatal(err)
	}
	if k.MemoryWarning() != "keys may be swapped" || k.Active() != 1 {
		t.Errorf("warning %q, active %d", k.MemoryWarning(), k.Active())
	}
	if err := k.Wipe(); err != nil {
		t.Error(err)
	}
}
