# `make help` shows the targets. Needs Go; what else a target needs it installs
# into bin/, except what CONTRIBUTING.md says for e2e.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
BRANCH   ?= $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null || echo unknown)
# The date of the commit, not of the build: two builds of it are the same.
DATE     ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)

v       := github.com/prometheus/common/version
LDFLAGS := -s -w -X $v.Version=$(VERSION) -X $v.Revision=$(REVISION) -X $v.Branch=$(BRANCH) -X $v.BuildDate=$(DATE)

BIN               := $(CURDIR)/bin
GOLANGCI_VERSION  := v2.15.0
GOLANGCI          := $(BIN)/golangci-lint-$(GOLANGCI_VERSION)
FUZZTIME          ?= 10s
BENCHTIME         ?= 2s

.PHONY: help
help: ## show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build ./ncp_exporter, static and stripped
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o ncp_exporter .

.PHONY: demo
demo: ## run against a simulated NCP
	go run . --demo

.PHONY: test
test: ## all unit tests, with the race detector
	go vet ./...
	go test -race -timeout 5m ./...

.PHONY: e2e
e2e: ## the built binary, a simulated NCP and a real Prometheus
	go test -tags e2e -count 1 -timeout 10m ./e2e/

.PHONY: lint
lint: $(GOLANGCI) ## all linters
	$(GOLANGCI) run ./...
	go mod tidy -diff
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run; else echo "shellcheck is not installed: left out"; fi
	@if command -v yamllint >/dev/null; then yamllint --strict .; else echo "yamllint is not installed: left out"; fi

$(GOLANGCI):
	GOBIN=$(BIN)/tmp go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(BIN)/tmp/golangci-lint $@ && rmdir $(BIN)/tmp

# go test fuzzes one target of one package at a time.
.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (10s), and the ledger's property for long
	go test ./collector/ledger/ -run '^TestExactWhateverHappens$$' -rapid.checks 20000
	@set -e; for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; \
		done; \
	done

# Those that have a limit, one after the other; what they print is in bench.txt.
JUDGED := Memory|Soak|CPU|Scrape|Latency|Sweep|QuietCalls|FirstRead|Commit|StoreSize

.PHONY: bench
bench: ## benchmarks of what is promised, as a table with the limits
	@go test -tags e2e -run '^$$' -bench '^Benchmark($(JUDGED))$$' -benchtime $(BENCHTIME) -timeout 10m \
		./e2e/ ./collector/ ./collector/ledger/ >bench.txt 2>&1 || true
	@go run ./internal/benchtable <bench.txt

.PHONY: docs
docs: ## write the tables of flags and metrics from the code
	go test -run '^TestDocs$$' . -args -update

.PHONY: golden
golden: ## write the golden exposition of the end-to-end test anew
	go test -tags e2e ./e2e/ -args -update
