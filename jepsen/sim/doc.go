// Package sim runs workloads and faults against a simulated cluster
// (internal/testcluster) and judges what the clients saw. One seed is one run:
// which requests are sent when, what goes wrong, and how long each message takes
// all follow from it.
//
// What clients ask is jepsen/workload's; models and checks live in jepsen/model and
// jepsen/check; real processes are not started here. Mutants are faults that are planted to see that the checkers catch
// them. Start reading at Run; README.md one folder up tells how to
// replay a seed.
package sim
