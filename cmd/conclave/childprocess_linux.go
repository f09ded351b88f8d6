package main

import "syscall"

// childAttributes put a node into a process group of its own, so that Ctrl-C
// reaches us and not it, and end it when we die.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
