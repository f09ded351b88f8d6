// Package testforeign drives a cluster of real processes with the clients of
// other projects, unchanged: what works for them is what the Vault-shaped API is
// worth. There is nothing here but tests, and one cluster for all of them.
//
// Three kinds of hands: the two clients that are written in Go make every call that
// they offer (vault_*_test.go, and the same for the other one, which alike.go
// writes; testdata/calls.txt lists the calls); clients that are written in other
// languages are spelled request by request, one test each, named after them
// (raw_test.go has the words); transcripts pin what goes over the wire, byte by byte
// (testdata/*.txtar). Start reading at hands_test.go. What our own clients do is
// tested where they live.
package testforeign
