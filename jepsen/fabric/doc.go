// Package fabric is a network of its own for real processes, and all that can
// go wrong with it. Each host is a network namespace with one TUN device; this
// process holds the other end of every device and is the switch between them,
// so whatever a packet suffers, it suffers here: cuts, loss, delay, jitter,
// reordering and repetition, for each ordered pair of hosts and each class of
// ports, from a seed, and counted.
//
// Namespaces and devices have no name and hang on file descriptors of this
// process: when it ends, however it ends, they are gone, and processes that it
// started in them are killed by the kernel. Nothing outside them is touched. It
// needs root and /dev/net/tun, and no other program. Nothing here knows what the
// processes are. Start reading at Fabric.
package fabric
