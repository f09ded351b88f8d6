//go:build unix && !linux

package main

import "syscall"

// childAttributes put a node into a process group of its own, so that Ctrl-C
// reaches us and not it. Without Linux's parent-death signal a node outlives
// us when we are killed with SIGKILL.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
