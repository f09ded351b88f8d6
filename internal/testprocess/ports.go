package testprocess

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are taken below the range from which Linux takes those of outgoing
// connections: a node that is down for a while must find its ports free again.
const (
	lowestPort  = 10_000
	highestPort = 32_000
	portTries   = 500
)

// handed are the ports that this process has given away. A node is started long
// after its ports were chosen, or is down for a while; the next node must not
// find them free then.
var handed struct {
	mu    sync.Mutex
	ports map[int]bool // guarded by mu
}

// take takes a port for good; false if it was taken before.
func take(port int) bool {
	handed.mu.Lock()
	defer handed.mu.Unlock()
	if handed.ports == nil {
		handed.ports = map[int]bool{}
	}
	first := !handed.ports[port]
	handed.ports[port] = true
	return first
}

// freeAddresses returns n different loopback addresses on which, a moment ago,
// nobody listened, neither on TCP nor on UDP. It returns none a second time.
func freeAddresses(n int) (addresses []string, err error) {
	var held []io.Closer
	// Held until all are found, so that no two are the same.
	defer func() {
		for _, h := range held {
			err = errors.Join(err, h.Close())
		}
	}()
	for range portTries {
		if len(addresses) == n {
			return addresses, nil
		}
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if !take(port) {
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			continue // somebody's
		}
		held = append(held, tcp)
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		held = append(held, udp)
		addresses = append(addresses, address)
	}
	return nil, fmt.Errorf("finding %d free ports: none in many tries", n)
}
