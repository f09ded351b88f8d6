package policy

import (
	"math/bits"
	"slices"
)

// A Capability is one thing that a rule can grant on a path, or, within this
// package, a set of them. A Request carries exactly one.
type Capability uint16

// The capabilities of Vault's policy language. CapabilitySudo is asked for
// through Request.Sudo, beside another capability; CapabilityDeny is never asked
// for, and a rule that has it grants nothing.
const (
	CapabilityCreate Capability = 1 << iota
	CapabilityRead
	CapabilityUpdate
	CapabilityPatch
	CapabilityDelete
	CapabilityList
	CapabilityScan
	CapabilitySudo
	CapabilityDeny
)

// capabilityNames is in the order of the bits.
var capabilityNames = [...]string{"create", "read", "update", "patch", "delete", "list", "scan", "sudo", "deny"}

// legacyPolicies are the values of `policy = "…"`, which Vault had before it had
// capabilities. They predate patch and scan and do not grant them.
var legacyPolicies = map[string]Capability{
	"read":  CapabilityRead | CapabilityList,
	"write": legacyWrite,
	"sudo":  legacyWrite | CapabilitySudo,
	"deny":  CapabilityDeny,
}

const legacyWrite = CapabilityCreate | CapabilityRead | CapabilityUpdate | CapabilityDelete | CapabilityList

// ParseCapability finds a capability by its name in a policy, such as "read".
func ParseCapability(name string) (Capability, bool) {
	i := slices.Index(capabilityNames[:], name)
	if i < 0 {
		return 0, false
	}
	return 1 << i, true
}

// String returns the capability's name in a policy, or "none", or for a set the
// names with a comma between them.
func (c Capability) String() string {
	names := c.names()
	if len(names) == 0 {
		return "none"
	}
	text := names[0]
	for _, name := range names[1:] {
		text += "," + name
	}
	return text
}

// names lists a set in the order of the bits.
func (c Capability) names() []string {
	names := make([]string, 0, bits.OnesCount16(uint16(c)))
	for i, name := range capabilityNames {
		if c&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// grants tells whether the set lets anything at all through.
func (c Capability) grants() bool { return c != 0 && c&CapabilityDeny == 0 }

// has tells whether the set lets through the one capability that a request asks
// for. A request that asks for none, or for deny, asks for nothing grantable.
func (c Capability) has(asked Capability) bool {
	return asked != 0 && c&asked == asked && c&CapabilityDeny == 0
}

// takesParameters tells whether parameter constraints hold for a request: as in
// Vault, for those that read or write a value, not for listings and deletions.
func (c Capability) takesParameters() bool {
	return c&(CapabilityCreate|CapabilityRead|CapabilityUpdate|CapabilityPatch) != 0
}

// lists tells whether a request names a directory, with or without its slash.
func (c Capability) lists() bool { return c&(CapabilityList|CapabilityScan) != 0 }
