// Package testforeign drives a cluster of real processes with the clients of
// other projects, unchanged: what works for them is what the Vault-shaped API is
// worth. There is nothing here but tests.
package testforeign
