// Command conclave is the one binary of Conclave: the server, a development
// cluster, and the verbs of operators and users.
//
// What lives here: flags, prompts, output, exit codes, and the child processes
// of "conclave dev". What never does: behaviour of a node (package server) or
// knowledge of the wire (package client).
//
// Start reading at newRoot in root.go, which lists the commands, one file per
// group; exit.go says what each exit code means; dev.go tells how the
// development cluster comes up.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], processIO()))
}
