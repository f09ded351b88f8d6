//go:build !linux

package seal

import (
	"errors"
	"fmt"
	"runtime"
)

func mapLocked(size int) *lockedMemory {
	return onHeap(size, "keys are on the ordinary heap and may be swapped or dumped: locking memory is not implemented on "+runtime.GOOS)
}

// HardenProcess is implemented on Linux only; elsewhere it returns an error that
// wraps errors.ErrUnsupported, and the caller decides whether to go on.
func HardenProcess() error {
	return fmt.Errorf("hardening process on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
