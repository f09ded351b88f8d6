# make test       everything CI runs: linters, layering, tests, the race detector, the simulation
# make test-deps  installs what the tests need beyond Go, where it may
# make race       the race detector over what is concurrent
# make jepsen     a simulated month, and 90 seconds of real processes under faults
# make lint       gofmt, go vet, staticcheck, generated code up to date
# make bench      the figures of bench/results
# make build      ./conclave

SHELL := /bin/bash
GO ?= go
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X github.com/conclave-secrets/conclave/server.Version=$(VERSION)

# What is concurrent: these run under the race detector, in their short form. The
# state machine applies on one goroutine; what readers share with it is a test apart.
RACE := ./audit ./auth/... ./storage/state ./storage/raftlog ./seal ./cluster/... ./transport/... ./core/... ./client/... ./server/...

.PHONY: test test-deps lint race unit jepsen build bench generate

test: test-deps lint unit race jepsen

test-deps:
	@scripts/test-deps

lint:
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "gofmt: the files above are not formatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) run ./proto/protogen -check
	$(GO) test -count=1 ./internal/deptest # uncached: it looks at every package

unit:
	$(GO) test -timeout 20m $$($(GO) list ./... | grep -v -e /internal/testprocess -e /internal/testforeign -e /jepsen/real -e /jepsen/faultfs)
	$(GO) test -count=1 -p 1 -timeout 20m ./internal/testprocess ./internal/testforeign # uncached: they build the binary
	$(GO) test -short -p 1 -timeout 20m ./jepsen/faultfs ./jepsen/real # the long run of real is make jepsen

race:
	CGO_ENABLED=1 $(GO) test -race -short -timeout 20m $(RACE)
	CGO_ENABLED=1 $(GO) test -race -short -timeout 20m -run 'RowCache|ExactlyOnce|Cascade|Snapshot' ./fsm

jepsen:
	@scripts/jepsen

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o conclave ./cmd/conclave

bench:
	$(GO) run ./bench

generate:
	$(GO) run ./proto/protogen
