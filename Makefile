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
PACKAGES          ?= ./...
TARGETS           ?= all
IMAGE             ?= localhost/ncp_exporter:latest

.PHONY: help
help: ## show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build ./ncp_exporter, static and stripped
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o ncp_exporter .

.PHONY: demo
demo: ## run against a simulated NCP
	go run . --demo

# The race detector needs a C compiler and the headers of its library: runtime/cgo
# tells whether they work.
.PHONY: test
test: ## all unit tests, with the race detector where there is a C compiler
	go vet $(PACKAGES)
	@if why=$$(CGO_ENABLED=1 go build -race -o /dev/null runtime/race runtime/cgo 2>&1); then \
		echo 'go test -race -timeout 20m $(PACKAGES)' && go test -race -timeout 20m $(PACKAGES); \
	else \
		echo "$$why" | head -n 3; \
		echo 'The race detector does not work here, see above: the tests run without it. It needs a C compiler (Debian: gcc and libc6-dev).'; \
		echo 'go test -timeout 20m $(PACKAGES)' && go test -timeout 20m $(PACKAGES); \
	fi
	go test -timeout 10m -run '^TestHostileAnswersAtOnce$$' ./ncpclient # parts of it take too long with -race

.PHONY: e2e
e2e: ## the built binary, a simulated NCP, a real Prometheus and Alertmanager; then rules
	go test -tags e2e -count 1 -timeout 30m -parallel 4 ./e2e/
	$(MAKE) rules

.PHONY: rules
rules: ## the Prometheus rules: their unit tests, and that a broken rule breaks one
	go test -tags e2e -count 1 -timeout 20m ./deploy/prometheus/

.PHONY: deploy-test
deploy-test: ## what deploy/ ships, against the schemas and types of the real tools
	cd deploy/checks && go vet ./... && go test -count 1 -timeout 20m ./...

.PHONY: image
image: ## the image for this machine, named IMAGE, without Docker
	deploy/image/build.sh '$(IMAGE)' 'VERSION=$(VERSION)' 'REVISION=$(REVISION)' 'BRANCH=$(BRANCH)' 'DATE=$(DATE)'

.PHONY: image-test
image-test: ## build the image and run it as README.md says; as root
	deploy/image/test.sh

.PHONY: release
release: ## archives, packages, bills of materials and checksums in dist/
	cd deploy/release && go run . -out '$(CURDIR)/dist' -targets '$(TARGETS)' \
		-version '$(VERSION)' -revision '$(REVISION)' -branch '$(BRANCH)' -date '$(DATE)'

.PHONY: chart
chart: ## the Helm chart as a package in dist/; its version must be that of the tag
	helm package deploy/helm/ncp-exporter --destination '$(CURDIR)/dist'
	@test -f 'dist/ncp-exporter-$(VERSION:v%=%).tgz' || { echo 'the chart has another version than $(VERSION): see docs/release.md' >&2; exit 1; }

.PHONY: about
about: ## what is being built, as name=value
	@printf '%s\n' 'version=$(VERSION)' 'number=$(VERSION:v%=%)' 'revision=$(REVISION)' 'date=$(DATE)'

.PHONY: sign
sign: ## sign dist/SHA256SUMS with SIGNING_KEY, an ssh key
	ssh-keygen -Y sign -n ncp_exporter -f '$(SIGNING_KEY)' dist/SHA256SUMS

.PHONY: release-test
release-test: ## what a release holds, and that two of them are the same
	cd deploy/release && go vet ./... && go test -count 1 -timeout 30m ./... $(RELEASE_TEST)

.PHONY: systemd-test
systemd-test: ## the package on Debian 11 and 12 under a real systemd; as root
	deploy/systemd/test.sh

.PHONY: deploy-sync
deploy-sync: ## write what deploy/ has of other files: rules, dashboards, values
	cd deploy/checks && go run ./cmd/sync ../..

.PHONY: lint
lint: $(GOLANGCI) ## all linters
	$(GOLANGCI) run ./...
	cd deploy/checks && $(GOLANGCI) run ./...
	cd deploy/release && $(GOLANGCI) run ./...
	go mod tidy -diff
	cd deploy/checks && go mod tidy -diff
	cd deploy/release && go mod tidy -diff
	@if command -v shellcheck >/dev/null; then shellcheck -x .ci/run deploy/*/*.sh grafana/render/pictures; else echo "shellcheck is not installed: left out"; fi
	@if command -v yamllint >/dev/null; then yamllint --strict .; else echo "yamllint is not installed: left out"; fi

.PHONY: lint-tool
lint-tool: $(GOLANGCI) ## install golangci-lint into bin/

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
	@go test -tags e2e -run '^$$' -bench '^Benchmark($(JUDGED))$$' -benchtime $(BENCHTIME) -timeout 20m \
		./e2e/ ./collector/ ./collector/ledger/ ./collector/subjects/ >bench.txt 2>&1 || true
	@go run ./e2e/benchtable <bench.txt

.PHONY: docs
docs: ## write the tables of flags, fields and metrics, the schema, and what --check says, from the code
	go test -run '^(TestDocs|TestCheckGolden)$$' . -args -update
	go test -run '^TestDocs$$' ./internal/config -args -update

# The oldest that is supported: its schemas know the fewest fields.
KUBERNETES := v1.29.6

.PHONY: schemas
schemas: ## write the schemas that manifests are checked against
	cd deploy/checks && go run ./cmd/schemas $$(go mod download -json k8s.io/kubernetes@$(KUBERNETES) | \
		sed -n 's/.*"Dir": "\(.*\)".*/\1/p')/api/openapi-spec/swagger.json schemas
.PHONY: dashboards
dashboards: ## write the dashboards and the page of runbooks from the code in grafana/
	go test -run '^Test(Dashboards|Runbooks)$$' ./grafana -args -update

.PHONY: dashboards-check
dashboards-check: ## hold the dashboards against the JSON Schema of @grafana/schema (needs node and npm)
	@if command -v npm >/dev/null; then \
		cd grafana/checks && npm ci --no-fund --no-audit --ignore-scripts --loglevel=error && npm run --silent check; \
	else \
		echo "node and npm are not installed: the dashboards are not held against their schema"; exit 1; \
	fi

.PHONY: pictures
pictures: ## draw the dashboards of the demo into docs/img (ten minutes; needs node, prometheus, chromium)
	grafana/render/pictures

.PHONY: golden
golden: ## write the golden exposition of the end-to-end test anew
	go test -tags e2e ./e2e/ -args -update
