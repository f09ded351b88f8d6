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
	cfg.Catalog = builtin()
	node, err := server.Start(ctx, cfg, logger)
	if err != nil {
		return serverFailure("starting the node", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- node.Wait() }()
	defer reopenOnHangup(node, logger)()
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

// reopenOnHangup has the node let go of a renamed audit file at each SIGHUP, as
// log rotators expect, until the returned function is called.
func reopenOnHangup(node *server.Node, logger *slog.Logger) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangup:
				if err := node.ReopenAudit(context.Background()); err != nil {
					logger.Error("the audit log could not be opened anew", "error", err)
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangup)
		close(done)
	}
}
