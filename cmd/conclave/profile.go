//go:build profile

package main

import (
	"log"
	"net/http"
	_ "net/http/pprof" // the point of this file
	"os"
)

// A binary built with -tags profile serves profiles of itself at the address in
// CONCLAVE_PPROF. A release must not: a heap profile is a view into memory.
func init() {
	if address := os.Getenv("CONCLAVE_PPROF"); address != "" {
		go func() { log.Print(http.ListenAndServe(address, nil)) }()
	}
}
