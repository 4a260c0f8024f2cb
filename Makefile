# Every target does its own set-up from a fresh clone. `make help` lists them.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

GO            ?= go
BIN           := $(CURDIR)/.bin
GOLANGCI_LINT := v2.15.0
VERSION       := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS       := -X main.version=$(VERSION)
FUZZTIME      ?= 10s
BENCHTIME     ?= 1s

# PostgreSQL refuses to run as root, so when root the data lies where the
# unprivileged account that runs it can get to: a clone may be in /root.
DATA ?= $(if $(filter 0,$(shell id -u)),/var/tmp/guidon-dev-$(shell pwd -P | cksum | cut -d' ' -f1),$(CURDIR)/.run/data)
RUN  := $(CURDIR)/.run

UI_SOURCES := $(shell find admin/src admin/public admin/build -type f 2>/dev/null) $(wildcard admin/*.json admin/*.ts admin/*.html)

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

##@ Run
# LAG=500ms delays the streams of the shop, so that without propagation requests tear.
.PHONY: run
run: build postgres ## Run Guidon on 127.0.0.1:8080 and the demo shop on 127.0.0.1:8090
	@mkdir -p $(RUN)
	@exec $(DEATHSIG) bash .ci/with-guidon $(BIN)/guidon $(DATA) 127.0.0.1:8080 $(RUN)/ready.json \
		'$(BIN)/demo --guidon "$$URL" --key "$$SERVER_KEY" --listen 127.0.0.1:8090 --lag $(LAG)'

LAG ?= 0s
# Where the kernel can, what make started ends with make, even after kill -9.
DEATHSIG := $(if $(shell command -v setpriv),setpriv --pdeathsig TERM,)

.PHONY: build
build: admin $(BIN) ## Build the admin UI and the binaries into .bin
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/guidon ./cmd/demo

$(BIN):
	@mkdir -p $@

##@ Test
.PHONY: test
test: test-go test-clients test-alloc test-admin test-browser ## Run all tests: Go with -race, the UI's, and a browser's

.PHONY: test-go
test-go: postgres gcc
	$(GO) test -race -timeout 10m ./...

# The race detector allocates, so the allocation guards run without it.
.PHONY: test-alloc
test-alloc:
	$(GO) test -run 'Alloc' ./sdk/eval/... ./sdk/propagate/...

# Clients that others wrote, against a real server.
.PHONY: test-clients
ifneq ($(shell command -v npm),)
test-clients: server/clients/node_modules/.installed build postgres
	@mkdir -p $(RUN)
	@rm -rf $(DATA)-clients
	GUIDON_FLAGD_PORTS=0 bash .ci/with-guidon $(BIN)/guidon $(DATA)-clients 127.0.0.1:0 $(RUN)/clients.json \
		'bash .ci/clients $(BIN)/guidon $(RUN)/clients.json'
	@rm -rf $(DATA)-clients
else
test-clients:
	@echo "npm is not installed: OpenFeature's and flagd's own clients are not tested"
endif

.PHONY: test-admin
test-admin: admin/node_modules/.installed
	cd admin && npm run --silent check && npm test --silent

.PHONY: test-browser
test-browser: build postgres chromium
	@mkdir -p $(RUN)
	@rm -rf $(DATA)-browser
	bash .ci/with-guidon $(BIN)/guidon $(DATA)-browser 127.0.0.1:0 $(RUN)/browser.json \
		'cd admin && GUIDON_E2E_URL="$$URL" GUIDON_E2E_KEY="$$ADMIN_KEY" npm run --silent e2e'
	@rm -rf $(DATA)-browser

.PHONY: proof
proof: build postgres ## Storm the shop while flipping a flag: 0 torn with propagation, many without
	@mkdir -p $(RUN)
	@rm -rf $(DATA)-proof $(RUN)/shop.json
	bash .ci/with-guidon $(BIN)/guidon $(DATA)-proof 127.0.0.1:0 $(RUN)/proof.json '\
		$(BIN)/demo --guidon "$$URL" --key "$$SERVER_KEY" --listen 127.0.0.1:0 --lag 500ms --ready-file $(RUN)/shop.json & \
		SHOP=$$!; trap "kill $$SHOP" EXIT; \
		until [ -s $(RUN)/shop.json ]; do kill -0 $$SHOP || exit 1; sleep 0.1; done; \
		$(BIN)/demo storm --shop "$$(sed -n "s|.*{\"url\":\"\([^\"]*\)\".*|\1|p" $(RUN)/shop.json)" --guidon "$$URL" --key "$$ADMIN_KEY"'
	@rm -rf $(DATA)-proof

# The report is results/mesh.txt and .json. MESH='--rate 1000 --seed 7' changes the run.
.PHONY: mesh
mesh: $(BIN) postgres ## Put 13 services over all transports under fire: 0 of 10 million evaluations may diverge
	$(GO) build -o $(BIN)/ ./cmd/mesh
	@rm -rf $(DATA)-mesh
	$(BIN)/mesh --data $(DATA)-mesh --report results/mesh $(MESH)
	@rm -rf $(DATA)-mesh

MESH ?=

.PHONY: bench
bench: postgres ## Print the benchmarks beside their floors
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./sdk/... ./server/...

.PHONY: bench-write
bench-write: postgres ## Print what writing costs, with fsync on, beside pgbench's bare statements
	$(GO) test -run '^$$' -bench 'Write|TenThousandFlags' -benchtime $(BENCHTIME) ./store

.PHONY: bench-audit
bench-audit: ## Verify an export of a million audit entries, beside a bare SHA-256 of its bytes
	GUIDON_AUDIT_ENTRIES=1000000 $(GO) test -count=1 -run '^$$' -bench '^BenchmarkAuditVerify$$' -benchtime 1x ./cmd/guidon

# SEED=1 repeats a run, SCENARIO=F3,F10 plays only these. Results lie in results/.
SEED ?= 0
SCENARIO ?=
.PHONY: torture
torture: torture-binaries ## Break Postgres and the servers under load for an hour, and check what is left
	$(BIN)/torture --guidon $(BIN)/guidon-failpoint --seed $(SEED) --scenario "$(SCENARIO)"

.PHONY: torture-short
torture-short: torture-binaries ## The same with a sample of each scenario
	$(BIN)/torture --guidon $(BIN)/guidon-failpoint --seed $(SEED) --short --scenario "$(SCENARIO)"

.PHONY: torture-binaries
torture-binaries: postgres $(BIN)
	$(GO) build -tags failpoint -o $(BIN)/guidon-failpoint ./cmd/guidon
	$(GO) build -o $(BIN)/torture ./cmd/torture

.PHONY: bench-fanout
bench-fanout: $(BIN) postgres ## Print how long a change takes to 100, 1,000 and 9,500 streams, and what a stream costs, beside a bare fan-out
	$(GO) build -o $(BIN)/ ./cmd/guidon ./cmd/bench
	$(BIN)/bench fanout --guidon $(BIN)/guidon --data $(DATA)-bench --streams $(STREAMS)

.PHONY: bench-herd
bench-herd: $(BIN) postgres ## Kill a server with 9,500 streams and print how they come back
	$(GO) build -o $(BIN)/ ./cmd/guidon ./cmd/bench
	$(BIN)/bench herd --guidon $(BIN)/guidon --data $(DATA)-bench --replicas 1 --streams 9500

.PHONY: bench-sync
bench-sync: $(BIN) postgres ## Print what 10,000 flags cost on the wire, in an SDK and at its start from disk, and staleness without notifications
	$(GO) build -o $(BIN)/ ./cmd/guidon ./cmd/bench
	$(BIN)/bench sync --guidon $(BIN)/guidon --data $(DATA)-bench --flags 10000
	$(BIN)/bench fanout --guidon $(BIN)/guidon --data $(DATA)-bench --flags 10000 --streams 100

STREAMS ?= 100,1000,9500

.PHONY: mutants
mutants: postgres ## Seed bugs one by one and show that a test catches each
	$(GO) run ./cmd/mutants

.PHONY: bench-ofrep
bench-ofrep: postgres ## Print OFREP's speed beside a bare handler's, and what 1,000 flags hold in memory
	$(GO) test -run '^$$' -bench OFREP -benchtime $(BENCHTIME) ./server
	$(GO) test -run '^$$' -bench Memory -benchtime 1x ./cmd/guidon

# A module of its own, so that Docker's dependencies are not ours.
.PHONY: image
image: postgres ## Check Dockerfile and compose.yaml with BuildKit's and Compose's own parsers, and run the image's binary
	$(GO) test -C cmd/guidon/container ./...
	$(GO) test -tags image -run '^TestImage$$' ./cmd/guidon

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (10s)
	@bash .ci/fuzz $(FUZZTIME)

# A module of its own, so that flagd's dependencies are not ours.
.PHONY: oracle
oracle: ## Compare the evaluator with flagd's own
	$(GO) test -C sdk/eval/flagdoracle ./...

##@ Check
.PHONY: ci
ci: ## What CI runs: test first, then every check
	$(MAKE) test
	$(MAKE) lint
	$(MAKE) check-generate
	$(MAKE) oracle
	$(MAKE) image
	$(MAKE) proof
	$(MAKE) torture-short
	$(MAKE) fuzz

.PHONY: lint
lint: $(BIN)/golangci-lint-$(GOLANGCI_LINT) admin/node_modules/.installed ## Lint Go, proto and TypeScript
	$(BIN)/golangci-lint-$(GOLANGCI_LINT) run ./...
	$(GO) mod tidy -diff
	admin/node_modules/.bin/buf lint
	admin/node_modules/.bin/buf format -d --exit-code
	cd admin && npm run --silent check

.PHONY: fmt
fmt: $(BIN)/golangci-lint-$(GOLANGCI_LINT) admin/node_modules/.installed ## Format Go, proto and TypeScript
	$(BIN)/golangci-lint-$(GOLANGCI_LINT) fmt ./...
	admin/node_modules/.bin/buf format -w
	cd admin && npx biome check --write .

.PHONY: generate
generate: admin/node_modules/.installed ## Generate Go and TypeScript from proto
	admin/node_modules/.bin/buf generate --template proto/buf.gen.yaml
	admin/node_modules/.bin/buf generate --template proto/buf.gen.admin.yaml --path proto/guidon

.PHONY: check-generate
check-generate: generate
	@git diff --exit-code -- proto/gen admin/src/gen || { echo "generated code is stale: run make generate and commit"; exit 1; }
	@test -z "$$(git ls-files --others --exclude-standard proto/gen admin/src/gen)" || { echo "generated files are not committed"; exit 1; }

.PHONY: vuln
vuln: ## Look for known vulnerabilities (needs the internet, so not part of ci)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

##@ Set up
.PHONY: admin
ifneq ($(shell command -v npm),)
admin: admin/dist/app/index.html ## Build the admin UI
else
admin:
	@echo "npm is not installed: building without the admin UI (the server says so at /admin/)"
endif

admin/dist/app/index.html: admin/node_modules/.installed $(UI_SOURCES)
	cd admin && npm run --silent build
	@touch $@

admin/node_modules/.installed: admin/package-lock.json
	cd admin && npm ci --no-audit --no-fund
	@touch $@

server/clients/node_modules/.installed: server/clients/package-lock.json
	cd server/clients && npm ci --no-audit --no-fund --ignore-scripts
	@touch $@

.PHONY: postgres
postgres: ## Find PostgreSQL's server binaries, or install them (root on Debian)
	@bash .ci/ensure postgres

.PHONY: chromium gcc
chromium gcc:
	@bash .ci/ensure $@

$(BIN)/golangci-lint-$(GOLANGCI_LINT): | $(BIN)
	GOBIN=$(BIN) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)
	@mv $(BIN)/golangci-lint $@

.PHONY: clean
clean: ## Remove what was built and the data of make run
	rm -rf $(BIN) $(RUN) $(DATA) $(DATA)-browser $(DATA)-proof $(DATA)-mesh $(DATA)-clients admin/dist/app admin/node_modules server/clients/node_modules
