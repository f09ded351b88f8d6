// Package storagetest holds as tests what others rely on in our stores:
// [TestLogStore], [TestStableStore] and [TestSnapshotStore] what hashicorp/raft
// does, [TestOrderedStore] what the state machine does. Each takes a [Disk], opens
// the store on it, ends that life by closing it or by a power cut, and opens it
// again.
//
// What never lives here: formats, and how a store keeps its promises; the rooms'
// own tests know those. Nothing but tests may import this package.
//
// Start reading at [Disk].
package storagetest
