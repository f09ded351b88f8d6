// Package client is the Go SDK of Conclave. It speaks the gRPC API conclave.v1
// to one or several nodes of a cluster.
//
// What lives here: finding a node that serves, repeating what is safe to
// repeat, idempotency keys, consistency levels, and errors that a program can
// branch on. What never does: cryptography of secrets, caching of values, or
// anything that imports more of Conclave than its proto.
//
// Start reading at Config and New; the promises about repeated calls are in
// call.go; the errors are in errors.go.
//
//	c, err := client.New(client.Config{
//		Addresses: []string{"node1:8210", "node2:8210", "node3:8210"},
//		CAFile:    "/etc/conclave/ca.pem",
//		Token:     client.NewToken(os.Getenv("CONCLAVE_TOKEN")),
//	})
//	if err != nil { … }
//	defer c.Close()
//	got, err := c.Secrets.Get(ctx, "app/db", client.GetOptions{})
package client
