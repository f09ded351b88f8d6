// Package real runs the real binary, several nodes of it, each on a host of its
// own in a jepsen/fabric, does to network, processes and clocks what a bad year
// does to them, and keeps the history of what clients saw meanwhile. Nothing is
// simulated here: gRPC, HTTP, TLS, disks and time are the real ones. What clients ask
// is jepsen/workload's, what is right is for jepsen/check to say; Run asks both, and
// looks at what only a real process leaves: logs, audit chains, files, state hashes.
//
// It needs root and /dev/net/tun; without them Run fails with an error that wraps
// fabric.ErrUnavailable. Start reading at Run.
package real
