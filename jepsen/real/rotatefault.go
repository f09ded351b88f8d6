package real

import (
	"context"
	"time"

	"github.com/conclave-secrets/conclave/client"
)

var rotateFaults = []fault{{"keys rotated", process, 3, (*blow).rotate}}

// rotate has the cluster seal with a new data key from now on.
func (b *blow) rotate() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 10*time.Second)
	defer cancel()
	var before, after keyStatus
	for _, step := range []func(context.Context, *client.Client) error{
		before.read,
		func(ctx context.Context, c *client.Client) error {
			_, err := c.Paths.Write(ctx, "sys/rotate", nil, client.PathOptions{})
			return err
		},
		after.read,
	} {
		if err := b.throughAny(ctx, step); err != nil {
			b.run.note("the keys were not rotated: %v", err)
			return nil // without a proof: the run says so
		}
	}
	b.prove("data keys added", int64(after.Term)-int64(before.Term))
	b.holdFor(100*time.Millisecond, time.Second)
	return nil
}

// keyStatus is which data key seals new values.
type keyStatus struct {
	Term uint32 `json:"term"`
}

func (s *keyStatus) read(ctx context.Context, c *client.Client) error {
	got, err := c.Paths.Read(ctx, "sys/key-status", client.PathOptions{})
	if err != nil {
		return err
	}
	return got.Decode(s)
}

// throughAny does something as the operator, through one node after the other until
// it is done: a node that is cut off does not say so at once.
func (b *blow) throughAny(ctx context.Context, do func(context.Context, *client.Client) error) (err error) {
	for ctx.Err() == nil {
		for _, node := range b.everyNode() {
			trying, cancel := context.WithTimeout(ctx, 2*time.Second)
			err = do(trying, b.run.askers[node])
			cancel()
			if err == nil {
				return nil
			}
		}
		pause(ctx, 100*time.Millisecond)
	}
	return err
}
