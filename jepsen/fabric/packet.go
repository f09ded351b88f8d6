package fabric

import (
	"encoding/binary"
	"net/netip"
)

// A Class is a set of kinds of traffic, told apart by port.
type Class uint8

// The classes. A packet whose ports are not in Options.Ports is Other.
const (
	Other Class = 1 << iota
	Peer
	Gossip
	Client

	// Everything is the class of every packet.
	Everything = Other | Peer | Gossip | Client
)

const (
	protocolTCP = 6
	protocolUDP = 17
)

// destination returns where an IPv4 packet goes; ok is false for anything else.
func destination(p []byte) (to netip.Addr, ok bool) {
	if len(p) < 20 || p[0]>>4 != 4 {
		return to, false
	}
	return netip.AddrFrom4([4]byte(p[16:20])), true
}

// classOf tells the class of an IPv4 packet from its ports, in either direction.
func classOf(p []byte, ports map[uint16]Class) Class {
	header := int(p[0]&15) * 4
	protocol, fragment := p[9], binary.BigEndian.Uint16(p[6:8])&0x1fff
	if protocol != protocolTCP && protocol != protocolUDP || fragment != 0 || len(p) < header+4 {
		return Other
	}
	for _, at := range []int{header + 2, header} {
		if c, ok := ports[binary.BigEndian.Uint16(p[at:at+2])]; ok {
			return c
		}
	}
	return Other
}
