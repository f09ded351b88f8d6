// Package enginetest holds the contract of package engine as tests: [TestTx] for
// whatever implements engine.Tx, [TestMethods] for the methods of an engine, and
// a [Store], the reference that engines are tested over.
//
// What never lives here: keys, consensus, the disk, and the meaning of any
// engine's values. Nothing but tests may import it.
//
// Start reading at [Store], which says what the contract means where its words
// leave a choice, then [TestTx] and [TestMethods].
package enginetest
