// Package policy says who may do what: it parses Vault's policy language, in
// HCL and in JSON, and decides requests against the rules. Everything in it is
// a pure function of its arguments.
//
// What never lives here: a clock, the network, a store, the names of routes, and
// any knowledge of where a policy came from or to whom it is attached.
//
// Start reading at Parse, then Compile and (*ACL).Decide. DESIGN.md has the
// rules by which patterns are ordered and policies are merged.
package policy
