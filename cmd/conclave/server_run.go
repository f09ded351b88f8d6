package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/conclave-secrets/conclave/seal"
	"github.com/conclave-secrets/conclave/server"
)

// runServer runs a node until a signal or a fatal error.
func runServer(cfg server.Config, logger *slog.Logger) error {
	if err := seal.HardenProcess(); err != nil {
		return serverFailure("hardening the process", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	node, err := server.Start(ctx, cfg, logger)
	if err != nil {
		return serverFailure("starting the node", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- node.Wait() }()
	select {
	case <-ctx.Done():
		stop() // a second signal ends the process at once
		if err := node.Close(); err != nil {
			return serverFailure("stopping the node", err)
		}
		return nil
	case err := <-ended:
		if cerr := closeFailed(node, cfg.ShutdownTimeout); cerr != nil {
			logger.Debug("closing after a failure", "error", cerr) // mostly the same again
		}
		if err != nil {
			return serverFailure("running the node", err)
		}
		return nil
	}
}

// errClose: the process ends although the node does not.
var errClose = errors.New("the node did not stop in time")

// closeFailed closes a node that has met something it cannot survive. An
// orderly end may wait for a goroutine that hangs in the very disk that failed;
// what was acknowledged is durable, so the process may end without it.
func closeFailed(node *server.Node, patience time.Duration) error {
	closed := make(chan error, 1)
	go func() { closed <- node.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(patience):
		return errClose
	}
}
