# Everything here works on a fresh checkout; `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
TARGET := $(or $(CARGO_TARGET_DIR),target)
NODE := $(TARGET)/debug/borealis-node
MANIFEST ?= examples/single-master.yaml
SEED ?=
SEEDS ?=
MODE ?= single-master
SECONDS ?= 60
FULL ?=
ONLY ?=
stage := .ci/stage

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Installs the packages that building and testing need, where they are missing
	@.ci/setup

build: ## Builds both programs
	cargo build -p node -p operator --bins

demo: setup ## Both modes in turn: up, load, kill an instance under load, the longest gap between two writes
	@cargo build -p node --bin borealis-node --example demo
	@timeout --kill-after=10 300 $(TARGET)/debug/examples/demo $(NODE) examples/single-master.yaml examples/multi-master.yaml

playground: setup ## Runs the cluster of MANIFEST (default: examples/single-master.yaml) until Ctrl-C
	@cargo build -p node --bin borealis-node
	@$(NODE) playground up -f $(MANIFEST)

# The limits are for a machine with two cores and nothing built yet. Everything is built as one workspace, since
# cargo builds dependencies again for every other choice of packages.
test: setup ## Everything that continuous integration checks
	@$(stage) format 120 cargo fmt --all --check
	@$(stage) lint 2400 cargo clippy --workspace --all-targets --quiet -- -D warnings
	@$(stage) build 2400 cargo build --workspace --quiet --bins --tests
	@$(stage) unit-tests 900 cargo test --workspace --quiet --exclude node --exclude node-sim
	@$(stage) simulation-tests 600 cargo test --workspace --quiet --test history --test scenarios --test planted
	@$(stage) simulation 600 $(MAKE) sim SEEDS=3000
	@$(stage) model 600 $(MAKE) model
	@$(stage) integration-tests 1500 cargo test --workspace --quiet --test it -- --show-output
	@$(stage) checker 600 $(MAKE) checker
	@$(stage) generated-files 300 $(MAKE) check-gen
	@$(stage) kubernetes-tools 2700 e2e/run.sh build
	@$(stage) charts 300 charts/check.sh
	@$(stage) kubernetes 1800 e2e/run.sh

check: ## The part of `make test` that needs no processes: format, lints, unit tests, generated files, dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	cargo test --workspace --quiet --exclude node
	$(MAKE) check-gen
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check; else echo "cargo-deny is not installed: licences and advisories are not checked"; fi

fix: ## Formats the code and applies what clippy can
	cargo clippy --workspace --all-targets --quiet --fix --allow-dirty --allow-staged
	cargo fmt --all

gen: ## Writes the generated files: the resource definition, also into the chart
	@cargo build --quiet --workspace --bins --tests
	@$(TARGET)/debug/crdgen > crds/yaml/auroraclusters.yaml.new
	@mv crds/yaml/auroraclusters.yaml.new crds/yaml/auroraclusters.yaml
	@charts/gen.sh

check-gen: ## Fails if the generated files are not what `make gen` writes
	@cargo build --quiet --workspace --bins --tests
	@$(TARGET)/debug/crdgen | diff -u crds/yaml/auroraclusters.yaml - \
	  || { echo "crds/yaml is out of date: run make gen" >&2; exit 1; }

sim: ## Random faults in a simulated cluster: SEEDS=N of them; SEED=x replays one, with SIM_TRACE=1 in full
	SEED=$(SEED) SEEDS=$(SEEDS) cargo test -p node-sim --quiet --test random -- --nocapture

# The same choice of packages as `make build` and `make test` have, so that nothing is built twice.
faults: ## Random faults under load, and a verdict about what clients saw: MODE=single-master|multi-master|kubernetes, SECONDS=N, SEED=x
	@if [ "$(MODE)" = kubernetes ]; then FAULT_SECONDS=$(SECONDS) FAULT_SEED=$(SEED) e2e/run.sh faults; else \
	  cargo build --quiet --workspace --bins --tests && \
	  $(TARGET)/debug/e2e-check playground --mode $(MODE) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)); fi

checker: ## A short `make faults` in each mode of the playground
	@$(MAKE) faults MODE=single-master SECONDS=40
	@$(MAKE) faults MODE=multi-master SECONDS=40

model: ## Visits every state of the protocol's model; FULL=1: larger ones too; ONLY=words: some, with traces
	MODEL=$(if $(FULL),full,standard) ONLY="$(ONLY)" cargo test -p node-sim --quiet --test model -- --nocapture the_rules

e2e: ## The tests on a real Kubernetes: a KUBECONFIG, kind, or one of its own
	@$(stage) kubernetes 1800 e2e/run.sh

bench: ## Measures Borealis next to MariaDB and Galera on this machine
	@bench/run.sh

bench-bounds: ## Updates the same rows ten million times and draws memory and disk
	@bench/bounds.sh

bench-readmission: ## Measures how long two lost disks take to be copied back, under load
	@bench/readmission.sh

bench-failover: ## Measures failover: SIGKILL, SIGTERM and SIGSTOP of the writer, and a writer of several; next to Galera
	@bench/failover.sh

slow-test: ## The integration tests with the full number of rounds
	RUN_SLOW_TESTS=1 cargo test -p node --test it -- --nocapture

.PHONY: bench bench-bounds bench-failover bench-readmission build check checker check-gen demo e2e faults fix gen help model playground setup sim slow-test test
