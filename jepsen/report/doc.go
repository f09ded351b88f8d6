// Package report turns a run of the harness into pages that a browser shows without
// a network: one for each run, with what clients saw over time under the faults, and
// one over all runs of a folder, failures included. Nothing here judges: verdicts come
// from jepsen/check. Start reading at Publish.
package report
