# The project's one front door. `make test` sets up everything that the tests need and runs all of them.

CARGO ?= cargo
PROGRAMS := authorizer key-issuer extension adapter

.PHONY: help test unit e2e programs tools fmt lint sam clean-tools

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

test: tools programs ## every test: unit, then end to end on the real parts
	$(CARGO) test --workspace --locked

unit: ## the tests that need nothing but Rust
	$(CARGO) test --workspace --locked --exclude e2e

e2e: tools programs ## the end-to-end tests alone
	$(CARGO) test --locked -p e2e

programs: ## the release binaries that the end-to-end tests run
	$(CARGO) build --release --locked $(addprefix -p ,$(PROGRAMS))

tools: ## the pinned real parts (Lambda RIE, moto, Envoy, SAM), into .tools/
	tests/tools/install

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## formatting, clippy and shell syntax, as CI runs them
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

sam: tools ## check and build the SAM template
	.tools/bin/sam validate --lint
	.tools/bin/sam build

clean-tools: ## remove .tools/
	rm -rf .tools
