# SPDX-License-Identifier: Apache-2.0

.DEFAULT_GOAL := help
.PHONY: help demo test race lint fuzz processed bench conformance baseline peers ci

SUITE ?= all

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## provoke every row of the error table over real sockets
	go run ./cmd/faultline demo

test: ## all tests of the library
	go test ./...

race: ## all tests under the race detector
	.ci/run race

lint: ## gofmt, go vet, staticcheck, tidy go.mod files
	.ci/run format lint

fuzz: ## each fuzz target for a moment
	.ci/run fuzz

processed: ## 100,000 calls under random faults: what each says of its processing is held against the facts
	.ci/run processed

bench: ## compare with grpc-go, connect-go and a raw TCP echo (takes minutes)
	go -C bench run .

conformance: ## SUITE=interop, connect, h2spec or all (the default)
	go -C conformance run ./cmd/conformance -suite $(SUITE)

baseline: ## the same suites against grpc-go and net/http
	go -C conformance run ./cmd/conformance -suite $(SUITE) -baseline

peers: ## calls to and through nginx, haproxy, curl and others, by hand: says what is missing
	conformance/peers/run

ci: ## everything that must hold before a change is merged
	.ci/run
