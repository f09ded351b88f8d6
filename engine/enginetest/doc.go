// Package enginetest holds the contract of package engine as tests: [TestTx] for
// whatever implements engine.Tx, [TestMethods] for the typed methods of an engine,
// [TestRoutes] and [FuzzRoutes] for the table of a backend, [TestTranscripts] for
// what its clients rely on, and a [Store], the reference that engines are tested over.
//
// What never lives here: keys, consensus, the disk, and the meaning of any
// engine's values. Nothing but tests may import it.
//
// Start reading at [Store], which says what the contract means where its words
// leave a choice, then [TestTx], [TestMethods] and [TestRoutes].
package enginetest
