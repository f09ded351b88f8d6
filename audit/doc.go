// Package audit keeps the record of who did what: entries in one line of JSON
// each, a chain of hashes through them, files that rotate, copies that go
// elsewhere, and the readers of all this ([Verify], [Query]), which work offline.
//
// Invariant: when [Log.Append] returns nil, the record is durable in the file and
// delivered to every other required sink, and it stands in a chain in which any
// edit, deletion, insertion or reordering shows, and any truncation shows against
// an anchor (a [Head] kept elsewhere).
//
// What never lives here: tokens, policies, mounts or the cluster. Package core
// fills entries in, owns the key behind the [Hasher] and anchors heads in the
// ledger. Nothing here ever writes a value in clear unless the caller exempted
// its field by name.
//
// DESIGN.md has the format and what it withstands. Start reading at [Entry],
// then [Log.Append]; commit.go is the goroutine that writes, file.go the file,
// verify.go reads back.
package audit
