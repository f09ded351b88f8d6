package workload

import (
	"fmt"

	"github.com/conclave-secrets/conclave/jepsen/history"
	conclavev1 "github.com/conclave-secrets/conclave/proto/conclave/v1"
)

// The clients contend for a few secrets at a time and leave them for others after
// a while.
const secretsAtATime = 4

func secretPath(age int64, i int) string { return fmt.Sprintf("app/secret-%d-%d", age, i) }

// secretNow is one of the secrets of the moment.
func (c *Client) secretNow() string {
	age := c.world.secrets.Add(1) / (secretsAtATime * requestsEach)
	return secretPath(age, c.rng.IntN(secretsAtATime))
}

// Paths are the secrets and lists that were ever asked for.
func (w *World) Paths() (paths []string) {
	for age := range w.secrets.Load()/(secretsAtATime*requestsEach) + 1 {
		for i := range secretsAtATime {
			paths = append(paths, secretPath(age, i))
		}
	}
	for age := range w.lists.Load()/(listsAtATime*appendsEach) + 1 {
		for i := range listsAtATime {
			paths = append(paths, listPath(age, i))
		}
	}
	return paths
}

func (c *Client) pickSecrets() *history.Op {
	path := c.secretNow()
	switch p := c.rng.Float64(); {
	case p < 0.38:
		return c.pickRead(path)
	case p < 0.62:
		return c.secretOp(history.Put, path)
	case p < 0.84:
		o := c.secretOp(history.Put, path)
		current := c.versions[path]
		o.CAS = &current
		return o
	case p < 0.91:
		return c.secretOp(history.Delete, path)
	case p < 0.97:
		return c.versioned(history.Undelete, path)
	default:
		return c.versioned(history.Destroy, path)
	}
}

func (c *Client) pickRead(path string) *history.Op {
	o := c.secretOp(history.Get, path)
	switch p := c.rng.Float64(); {
	case p < 0.1 && c.versions[path] > 0:
		o.Version = c.versions[path]
	case p < 0.2:
		o.Level = conclavev1.Consistency_CONSISTENCY_LOCAL
	case p < 0.3:
		o.Level, o.AtLeast = conclavev1.Consistency_CONSISTENCY_AT_LEAST_INDEX, c.seen
	case p < 0.4:
		o.Level, o.MaxAge = conclavev1.Consistency_CONSISTENCY_BOUNDED, c.world.options.MaxAge
	}
	return o
}

func (c *Client) secretOp(kind history.Kind, path string) *history.Op {
	o := &history.Op{Kind: kind, Key: path}
	if kind == history.Put {
		o.Value = fmt.Sprintf("%s%d request %d", c.world.options.Canary, c.id, c.serial)
	}
	return o
}

// versioned is a change of a version that the client has heard of, or guesses.
func (c *Client) versioned(kind history.Kind, path string) *history.Op {
	o := c.secretOp(kind, path)
	o.Version = max(1, c.versions[path])
	return o
}
