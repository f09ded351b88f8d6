// Package workload is what clients ask of a cluster, and what the answers mean:
// which request comes next, how carefully it is sent, what a refusal says about the
// state, and the judges that need to know how the requests are made. It knows no
// cluster: jepsen/sim and jepsen/real carry its requests, each in its own way, and
// tell it the time. No fault is done here. Start reading at World and Client.
package workload
