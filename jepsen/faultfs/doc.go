// Package faultfs is a FUSE file system that does to real processes what disks
// and power supplies do: it loses, tears and reorders what was not synced, fails
// reads, writes and syncs, fills up, slows down, hangs, and lets stored bits rot.
// Tests put a node's data directory on it; kill -9 and PowerCut together are a
// power failure.
//
// It mirrors a directory, the backing store, which always holds the newest state.
// What was not synced yet is kept beside it as a log of undos: per file, its
// writes and resizes (file.go); for the tree, its entries (entry.go). A sync
// forgets undos; a power cut (cut.go) carries some of them out.
//
// # What is modelled
//
//   - A file's data and size are durable once fsync or fdatasync of that file has
//     returned. Until then each write may be kept, lost or torn at a 512-byte
//     boundary, in no order.
//   - A created, removed or renamed name is durable once its directory was synced;
//     the file's own sync is not enough, which is POSIX's letter and harsher than
//     ext4. Options.Ordered is ext4's habit instead: any sync takes all earlier
//     names with it. Names of one directory are lost from the newest backwards. A
//     rename is one step: the old name or the new one, never neither.
//   - After a sync that failed, what it should have written counts as never
//     written, whatever later syncs say, as on Linux.
//
// # What is not
//
// Modes, owners and times are durable at once. A lost write leaves what was there
// before, or zeros in a hole, never another file's blocks. Nothing is written back
// by time, only when one file holds more than Options.Hold. A directory that moves
// to another directory is durable with the next sync of any directory. sync(2)
// and syncfs(2) do not reach a FUSE file system. Exchanging renames, extended
// attributes and fallocate's ways of punching holes are refused.
//
// A process must not map a file of a file system that it serves itself: the page
// fault may wait for a goroutine that waits for the fault. Nor should it use files
// that hang: if it is killed then, its thread waits for an answer that only itself
// could give, until somebody writes to /sys/fs/fuse/connections/N/abort. Other
// processes are free to do both. Start at Mount.
package faultfs
