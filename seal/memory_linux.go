package seal

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func mapLocked(size int) *lockedMemory {
	page := os.Getpagesize()
	length := (size + page - 1) / page * page
	mapped, err := unix.Mmap(-1, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return onHeap(size, fmt.Sprintf("keys are on the ordinary heap and may be swapped or dumped: mapping memory: %v", err))
	}
	m := &lockedMemory{bytes: mapped[:size:size], unmap: func() error {
		if err := unix.Munmap(mapped); err != nil { // unlocks too
			return fmt.Errorf("unmapping key memory: %w", err)
		}
		return nil
	}}
	if err := unix.Mlock(mapped); err != nil {
		m.warning = fmt.Sprintf("keys may be swapped to disk: locking memory: %v (raise RLIMIT_MEMLOCK)", err)
	} else if err := unix.Madvise(mapped, unix.MADV_DONTDUMP); err != nil {
		m.warning = fmt.Sprintf("keys may be in a core dump: excluding memory: %v", err)
	}
	return m
}

// HardenProcess turns core dumps off and keeps other processes of the same user
// from attaching or reading this one's memory (prctl PR_SET_DUMPABLE). Call it
// first thing in main. Side effect: /proc/self belongs to root from then on.
func HardenProcess() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning core dumps off: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("making process memory private: %w", err)
	}
	return nil
}
