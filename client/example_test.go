package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/conclave-secrets/conclave/client"
)

// A program reads a secret, raises a counter under check-and-set, and tells the
// cases apart that it must act on.
func Example() {
	c, err := client.New(client.Config{
		Addresses: []string{"node1:8210", "node2:8210", "node3:8210"},
		CAFile:    "/etc/conclave/ca.pem",
		Token:     client.NewToken(os.Getenv("CONCLAVE_TOKEN")),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	ctx := context.Background()
	got, err := c.Secrets.Get(ctx, "app/counter", client.GetOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = c.Secrets.Put(ctx, "app/counter", client.Data{"n": client.JSON([]byte("2"))},
		client.PutOptions{CAS: new(got.Version.Number)})
	switch {
	case errors.Is(err, client.ErrUnknownOutcome):
		fmt.Println("find out under the key", client.AsError(err).IdempotencyKey)
	case errors.Is(err, client.ErrConflict):
		fmt.Println("somebody was faster; now at version", client.AsError(err).CurrentVersion)
	case err != nil:
		fmt.Println(err)
	}
}
