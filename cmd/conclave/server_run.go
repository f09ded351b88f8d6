package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

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
		if err := errors.Join(err, node.Close()); err != nil {
			return serverFailure("running the node", err)
		}
		return nil
	}
}
