// Package authtest holds the contract of an auth method as tests: [Test] for any
// engine.Backend that is mounted below auth/, and a [Mount], which serves requests
// over the reference store as core does over the ledger.
//
// What never lives here: the meaning of any method's records, and anything that
// runs outside tests.
//
// Start reading at [Spec], which says what a method must bring, then [Test].
package authtest
