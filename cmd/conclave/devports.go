package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
)

// devPorts are the ports of one node, as offsets from its base, which is that of HTTP.
type devPorts struct {
	Base int `json:"base_port"`
}

// Offsets and spacing of the ports.
const (
	peerOffset   = 1
	gossipOffset = 2
	apiOffset    = 10
	nodeSpacing  = 100
	maxPort      = 65535
)

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func (p devPorts) http() string   { return loopback(p.Base) }
func (p devPorts) api() string    { return loopback(p.Base + apiOffset) }
func (p devPorts) peer() string   { return loopback(p.Base + peerOffset) }
func (p devPorts) gossip() string { return loopback(p.Base + gossipOffset) }

func layoutPorts(base, nodes int) []devPorts {
	out := make([]devPorts, nodes)
	for i := range out {
		out[i] = devPorts{base + nodeSpacing*i}
	}
	return out
}

// Free ports are looked for below the range from which Linux takes those of
// outgoing connections, so that none is taken between the look and the use.
const (
	freeLowest  = 10_000
	freeHighest = 32_000
	freeTries   = 200
)

// choosePorts returns the ports of a new cluster, free a moment ago.
func choosePorts(base, nodes int) ([]devPorts, error) {
	if base != 0 {
		if base < 1 || base+nodeSpacing*(nodes-1)+apiOffset > maxPort {
			return nil, usageError("Use --port 0 for free ones.", "--port %d leaves no room for %s", base, count(nodes, "node"))
		}
		layout := layoutPorts(base, nodes)
		return layout, portsFree(layout)
	}
	for range freeTries {
		layout := layoutPorts(freeLowest+rand.IntN(freeHighest-freeLowest-nodeSpacing*nodes), nodes)
		if portsFree(layout) == nil {
			return layout, nil
		}
	}
	return nil, &failure{exitServer, errors.New("finding free ports: none in many tries"), "Name a --port."}
}

// portsFree listens on each port for a moment.
func portsFree(layout []devPorts) error {
	for _, p := range layout {
		for _, address := range []string{p.http(), p.api(), p.peer(), p.gossip()} {
			if err := portFree(address, listenTCP); err != nil {
				return err
			}
		}
		if err := portFree(p.gossip(), listenUDP); err != nil {
			return err
		}
	}
	return nil
}

func listenTCP(address string) (io.Closer, error) { return net.Listen("tcp", address) }
func listenUDP(address string) (io.Closer, error) { return net.ListenPacket("udp", address) }

func portFree(address string, listen func(string) (io.Closer, error)) error {
	listener, err := listen(address)
	if err == nil {
		err = listener.Close()
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return &failure{exitServer, fmt.Errorf("port %s is in use", address), "Stop what uses it, or use another --port (--port 0 picks free ones)."}
	}
	if err != nil {
		return devFailure("trying port "+address, err, "Use another --port (--port 0 picks free ones).")
	}
	return nil
}
