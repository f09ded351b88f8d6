package vfs

import "fmt"

// SpaceChecker tells how many bytes of the file system that holds dir are free
// for an unprivileged writer, and how many it has. [FreeSpace] is the real one;
// a test passes its own to fill the disk.
type SpaceChecker func(dir string) (free, total uint64, err error)

// FreeSpace asks the operating system (statfs). Whoever accepts new work calls
// it before the disk is full: once Raft cannot store a term it must stop
// (L8 in cluster/DESIGN.md), so the check belongs before the proposal, not before the write.
func FreeSpace(dir string) (free, total uint64, err error) {
	usage, err := Default.GetDiskUsage(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("reading free space of %s: %w", dir, err)
	}
	return usage.AvailBytes, usage.TotalBytes, nil
}

var _ SpaceChecker = FreeSpace
