# make run and make test are all that a newcomer needs; make help lists the rest.
# Everything a target needs it installs itself: Go modules by go.sum, npm packages by lockfile.

SHELL   := /bin/bash
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X main.version=$(VERSION) -X main.commit=$(shell git rev-parse HEAD 2>/dev/null) -X main.date=$(shell git log -1 --format=%cI 2>/dev/null)
BIN     := bin/hedgerow

# The modules of go.work, as patterns of their packages; e2e apart, which needs the binary.
UNITS   := ./... ./otelexport/... ./examples/... ./sdktest/... ./packaging/... ./docsite/... ./server/...
ALL     := $(UNITS) ./server/e2e/...
FUZZTIME ?= 30s

.PHONY: help run demo build test unit race e2e stats crash chaos check clients conformance upgrade long packaging release image image-lock lint fuzz bench bench-query bench-pages docs generate prices setup assets tidy clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## set up, build and start hedgerow on 127.0.0.1:4100 (data in ./data)
	$(BIN) serve

demo: build ## start with a simulated provider, a simulated PostHog and traffic: no keys needed
	$(BIN) demo

build: $(BIN) ## build bin/hedgerow

# The pages' scripts. Without them, by plain "go build", the pages work too.
UI     := server/internal/web/ui
ASSETS := server/internal/web/dist/app.js

assets: $(ASSETS) ## bundle the pages' scripts into server/internal/web/dist

$(ASSETS): $(UI)/node_modules/.hedgerow $(UI)/build.mjs $(wildcard $(UI)/*.js) $(wildcard server/internal/web/*/*.templ server/internal/web/page/*.go)
	cd $(UI) && node build.mjs
	@touch $@

$(UI)/node_modules/.hedgerow: $(UI)/package-lock.json
	cd $(UI) && npm ci --no-audit --no-fund
	@touch $@

.PHONY: $(BIN)
$(BIN): $(ASSETS)
	@mkdir -p bin
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN) ./server/cmd/hedgerow

setup: server/e2e/node_modules/.hedgerow $(UI)/node_modules/.hedgerow ## install what the tests need: npm packages by lockfile, Chromium from Debian
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	  echo 'installing chromium'; \
	  SUDO=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

server/e2e/node_modules/.hedgerow: server/e2e/package-lock.json
	cd server/e2e && npm ci --no-audit --no-fund
	@touch $@

generate: ## regenerate the pages' Go code from their .templ files, the API's form of an event and the docs' table of its fields
	$(GO) tool templ generate -path server/internal/web
	$(GO) run ./server/internal/query/form
	$(GO) test ./event -run TestFieldsAreDocumented -update

# The data of genai-prices and LiteLLM, and what they charge for the usages of the tests, from PyPI by lockfile. PRICES_DATE is the day of the data.
PRICES := internal/price/generate
PRICES_DATE ?= 2026-11-21
prices: $(PRICES)/.venv/.hedgerow ## write the built-in prices anew from genai-prices and LiteLLM; for newer data change internal/price/generate/requirements.txt
	$(PRICES)/.venv/bin/python $(PRICES)/dump.py $(PRICES)/.venv/genai.json
	$(GO) run ./$(PRICES) -date $(PRICES_DATE) \
	  -genai $(PRICES)/.venv/genai.json -genai-version $$($(PRICES)/.venv/bin/python -c 'from importlib.metadata import version; print(version("genai-prices"))') \
	  -litellm "$$($(PRICES)/.venv/bin/python -c 'import importlib.util as u; print(u.find_spec("litellm").submodule_search_locations[0])')/model_prices_and_context_window_backup.json" \
	  -litellm-version $$($(PRICES)/.venv/bin/python -c 'from importlib.metadata import version; print(version("litellm"))')
	$(PRICES)/.venv/bin/python $(PRICES)/models.py internal/price/testdata
	$(PRICES)/.venv/bin/python $(PRICES)/usages.py internal/price/testdata

$(PRICES)/.venv/.hedgerow: $(PRICES)/requirements.txt
	python3 -m venv $(PRICES)/.venv && $(PRICES)/.venv/bin/pip -q install --require-hashes -r $(PRICES)/requirements.txt
	@touch $@

# All is compiled for the race detector but the binary that e2e starts: the SDKs of
# providers, which tests use, take minutes to compile. vet looks once.
test: lint race e2e ## set up and run all tests (unit tests under the race detector)

unit: ## unit tests of every package
	$(GO) test $(UNITS)

# Packages without goroutines, which server/internal/deptest checks: the race detector has
# nothing to find in them, and makes their tests five times slower.
ALONE := ./event ./internal/enrich ./internal/flag ./internal/privacy ./internal/template ./internal/vocabulary ./docsite ./server/internal/deptest ./server/internal/query/sqlf ./server/internal/stats

race: assets ## unit tests under the race detector (lint has vetted them)
	$(GO) test -vet=off $(ALONE)
	$(GO) test -race -vet=off -timeout 20m $$($(GO) list $(UNITS) | grep -vxF "$$($(GO) list $(ALONE))")

e2e: setup assets ## the real binary with real client SDKs
	$(GO) test -race -vet=off -count=1 -timeout 30m -parallel 4 ./server/e2e

# Each table runs in a process of its own, as many at once as there are processors.
STATS := server/internal/stats
stats: $(STATS)/reference/.venv/.hedgerow ## the statistics of experiments: an independent implementation in Python agrees; tables of errors and power of all methods
	$(STATS)/reference/.venv/bin/python $(STATS)/reference/agreement.py > $(STATS)/reference/.venv/agreement.json
	HEDGEROW_STATS=1 HEDGEROW_STATS_AGREEMENT=$(CURDIR)/$(STATS)/reference/.venv/agreement.json $(GO) test -count=1 -run '^TestAgreement' ./$(STATS)
	@mkdir -p bin
	$(GO) test -c -o bin/stats.test ./$(STATS)
	cd $(STATS) && $(CURDIR)/bin/stats.test -test.list '^TestSimulated|^TestReturningUsers$$' | \
	  HEDGEROW_STATS=1 xargs -P $$(nproc) -I TEST $(CURDIR)/bin/stats.test -test.v -test.timeout 60m -test.run '^TEST$$'
	HEDGEROW_STATS=1 $(GO) test -count=1 -timeout 60m -v -run '^TestSimulated' ./server/internal/experiment

$(STATS)/reference/.venv/.hedgerow: $(STATS)/reference/requirements.txt
	python3 -m venv $(@D) && $(@D)/bin/pip -q install --require-hashes -r $<
	@touch $@

crash: ## 50 kill -9 at random moments under load
	HEDGEROW_CRASH_ROUNDS=50 $(GO) test -count=1 -timeout 30m -run 'Crash' -v ./server/e2e/...

check: ## build and vet everything: what each commit passes
	$(GO) build $(ALL) && $(GO) vet $(ALL)
	cd deploy && GOWORK=off $(GO) vet ./...

CHAOS_ROUNDS ?= 200
chaos: ## random faults under load: kill -9, full disk, damaged files, exhausted connections, failing providers and PostHog (CHAOS_ROUNDS=200)
	HEDGEROW_CHAOS_ROUNDS=$(CHAOS_ROUNDS) $(GO) test -count=1 -timeout 85m -run '^TestChaos$$' -v ./server/e2e

# Python's packages in virtual environments, npm's in a folder of their own, both by lockfile.
CLIENTS := server/e2e/clients
clients: assets $(CLIENTS)/node_modules/.hedgerow $(CLIENTS)/venv/python/.hedgerow $(CLIENTS)/venv/llamaindex/.hedgerow ## real Python and JavaScript clients, reporting, through the gateway, and both; writes the table of docs/clients.md
	HEDGEROW_CLIENTS=1 $(GO) test -count=1 -timeout 60m -run '^TestClients$$' -v ./server/e2e

$(CLIENTS)/node_modules/.hedgerow: $(CLIENTS)/package-lock.json
	cd $(CLIENTS) && npm ci --no-audit --no-fund
	@touch $@

$(CLIENTS)/venv/%/.hedgerow: $(CLIENTS)/%.txt
	python3 -m venv $(@D) && $(@D)/bin/pip -q install --require-hashes -r $<
	@touch $@

upgrade: ## the binary of 3b558a2 and of each release: its answers before and after an upgrade, and the way back; migrations of millions of events
	HEDGEROW_UPGRADE=1 $(GO) test -count=1 -timeout 60m -v -run '^TestUpgrade|^TestMigration' ./server/e2e

long: setup assets ## tests of roll-ups with all their questions, a click into each chart; make test does a part of both
	HEDGEROW_LONG=1 $(GO) test -count=1 -timeout 60m ./server/internal/query
	HEDGEROW_LONG=1 $(GO) test -count=1 -timeout 30m -run '^TestExamplesWalk$$' ./server/e2e

conformance: setup assets ## print every claim of docs/conformance.md with the result of its tests (CONFORMANCE=-all: the protocols too)
	@$(GO) run ./server/internal/conformance $(CONFORMANCE)

# The chart's tests need Helm, a thousand packages: their module is apart from go.work, so
# that neither its versions nor its size are anyone else's.
packaging: assets ## tests that take minutes: the release's binary, the image in a root folder of its own, the chart by Helm, compose.yaml, the Dockerfile
	HEDGEROW_PACKAGING=1 $(GO) test -count=1 -timeout 30m -v -run '^(TestImage|TestReproducible)$$' ./packaging
	cd deploy && GOWORK=off $(GO) vet ./... && GOWORK=off $(GO) test -count=1 ./...

RELEASE ?=
release: assets ## archives for the systems that this machine has compilers for, with SBOM, checksums and provenance, in dist (RELEASE="-all linux/amd64")
	$(GO) run ./packaging release -version '$(VERSION)' $(RELEASE)

IMAGE ?=
image: assets ## the container image as an OCI layout in dist/image; needs apt-get of Debian 12 (IMAGE="amd64 arm64")
	rm -rf dist/image
	$(GO) run ./packaging image -version '$(VERSION)' $(IMAGE)

image-lock: ## take today's versions of Debian's packages for the image
	$(GO) run ./packaging lock

docs: ## build the documentation as a site with a search, in dist/docs; a broken link fails
	$(GO) run ./docsite

lint: ## gofmt, vet and staticcheck (staticcheck.conf)
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'not formatted (run gofmt -w):'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet -race $(ALL)
	$(GO) tool staticcheck $(ALL)

# Without a bound, making one found input smaller may take all the time there is.
fuzz: ## every fuzz target for FUZZTIME (default 30s)
	@for pkg in $$($(GO) list $(ALL)); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$pkg || exit 1; \
	  done; done

bench: build ## what the gateway costs, against a bare reverse proxy in the same run; then the packages' benchmarks
	$(GO) build -o bin/bench ./server/internal/bench && bin/bench -bin $(BIN)
	$(GO) test -run '^$$' -bench . -benchtime 200ms $(UNITS)
	$(MAKE) bench-pages

bench-pages: setup assets ## each page of the demo in Chromium: its weight, the time until it can be used, how far it shifts
	@set -o pipefail; $(GO) test -count=1 -timeout 30m -v -run '^TestDemo$$' ./server/e2e | grep -E 'interactive after|^(---|ok|FAIL)'

bench-query: ## every question of the pages at 1 and 10 million events, made once in the folder for temporary files
	HEDGEROW_BENCH_ROWS=1000000 $(GO) test -run '^$$' -bench BenchmarkDashboards -benchtime 20x -timeout 60m ./server/internal/query
	HEDGEROW_BENCH_ROWS=10000000 $(GO) test -run '^$$' -bench BenchmarkDashboards -benchtime 20x -timeout 120m ./server/internal/query

# go mod tidy looks at one module alone and asks a proxy for the others. Their versions have
# no tags yet: a proxy of files gives them out as they are in this tree.
tidy: ## go mod tidy in every module
	@proxy=$$(mktemp -d) && $(GO) run ./server/internal/release $$proxy && chmod -R u+w "$$($(GO) env GOMODCACHE)"/github.com/hedgerow 2>/dev/null; \
	rm -rf "$$($(GO) env GOMODCACHE)"/github.com/hedgerow "$$($(GO) env GOMODCACHE)"/cache/download/github.com/hedgerow; \
	for dir in $$($(GO) list -m -f '{{.Dir}}'); do \
	  ( cd $$dir && echo "go mod tidy in $$dir" && GODEBUG=goindex=0 GOWORK=off GOFLAGS=-mod=mod GONOSUMDB='github.com/hedgerow/*' GOPROXY=file://$$proxy,$$($(GO) env GOPROXY) $(GO) mod tidy && \
	    sed -i.bak '/^github.com\/hedgerow\/hedgerow/d' go.sum && rm -f go.sum.bak ) || exit 1; \
	done; rm -rf $$proxy
	cd deploy && GOWORK=off $(GO) mod tidy

clean: ## remove what was built (never ./data)
	rm -rf bin dist server/e2e/node_modules $(UI)/node_modules $(PRICES)/.venv $(STATS)/reference/.venv
	find server/internal/web/dist -type f ! -name .gitkeep -delete
