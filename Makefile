# The project's one front door. `make test` sets up everything that the tests need and runs all of them.

CARGO ?= cargo
PROGRAMS := authorizer key-issuer extension adapter

.PHONY: help test unit e2e differential programs tools bench fmt lint sam clean-tools

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

test: tools programs ## every test: unit, then end to end on the real parts
	$(CARGO) test --workspace --locked

unit: ## the tests that need nothing but Rust
	$(CARGO) test --workspace --locked --exclude e2e

e2e: tools programs ## the end-to-end tests alone
	$(CARGO) test --locked -p e2e

differential: CAUSEWAY_DIFFERENTIAL_CASES ?= 2000
# Another seed in every run, unless one is given: a report names the seed and the set that show it again.
differential: CAUSEWAY_DIFFERENTIAL_SEED ?= $(shell date +%s)
differential: tools ## many generated policies and requests, to Envoy and to authz
	CAUSEWAY_DIFFERENTIAL_CASES=$(CAUSEWAY_DIFFERENTIAL_CASES) CAUSEWAY_DIFFERENTIAL_SEED=$(CAUSEWAY_DIFFERENTIAL_SEED) \
		CAUSEWAY_REQUIRE_TIERS=1 $(CARGO) test --locked -p e2e --test differential -- --nocapture

programs: ## the release binaries that the end-to-end tests run
	$(CARGO) build --release --locked $(addprefix -p ,$(PROGRAMS))

tools: ## the pinned real parts (Lambda RIE, moto, Envoy, SAM, Helm), into .tools/
	tests/tools/install
	tests/tools/install-infra

bench: tools ## what policies, authorizer, issuer and egress proxy cost beside their peers, as tables of ratios
	$(CARGO) bench --locked -p authz --bench policy
	for program in bare authorizer extension key-issuer; do $(CARGO) build --release --locked -p $$program || exit; done
	$(CARGO) build --release --locked --manifest-path tests/bare-extension/Cargo.toml --target-dir target
	$(CARGO) bench --locked -p e2e --bench authorizer
	$(CARGO) bench --locked -p e2e --bench issuer
	tests/tools/install-peers
	$(CARGO) bench --locked -p e2e --bench egress

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## formatting and clippy, as CI runs them
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

sam: tools ## check and build the SAM template
	.tools/bin/sam validate --lint
	.tools/bin/sam build

sam: export SAM_CLI_TELEMETRY := 0
# Validation needs the name of a region; nothing is asked of it.
sam: export AWS_DEFAULT_REGION ?= eu-central-1

clean-tools: ## remove .tools/
	rm -rf .tools

# --- what `sam build` runs: build-<logical id>, with ARTIFACTS_DIR set, in a scratch folder outside the checkout --------
# Not SAM's own method rust-cargolambda: there cargo-lambda puts panic=abort and a CPU over our release profile, and SAM
# cannot pass the flag that stops it.
ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
# Amazon Linux 2 has glibc 2.26, Amazon Linux 2023 has 2.34: what needs no more than 2.26 runs on both.
LAMBDA_TARGET := x86_64-unknown-linux-gnu.2.26
# The arguments of `causeway bundle` but its output; paths are relative to the checkout.
CAUSEWAY_POLICIES ?= examples/bookinfo

# cargo finds cargo-lambda, and cargo-lambda finds zig.
build-%: export PATH := $(ROOT)/.tools/bin:$(PATH)
# AWS-LC's jitter entropy source costs each cold start 10 to 50 ms; without it the system's generator alone is used.
build-%: export AWS_LC_SYS_NO_JITTER_ENTROPY := 1

# $(call program,PACKAGE,WHERE IN THE ARTEFACT)
define program
	$(if $(ARTIFACTS_DIR),,$(error `sam build` runs this target, with ARTIFACTS_DIR set))
	@command -v cargo-lambda >/dev/null || { echo 'cargo-lambda is missing; `make tools` installs it' >&2; exit 1; }
	cd "$(ROOT)" && $(CARGO) lambda build --release --locked --disable-optimizations \
		--target $(LAMBDA_TARGET) --package $(1) --lambda-dir "$(CURDIR)/lambda"
	install -D -m 755 "$(CURDIR)/lambda/$(1)/bootstrap" "$(ARTIFACTS_DIR)/$(2)"
endef

.PHONY: build-Authorizer build-KeyIssuer build-UsagePlansFunction build-ExtensionLayer build-ConfigurationLayer

build-Authorizer:
	$(call program,authorizer,bootstrap)

build-KeyIssuer build-UsagePlansFunction:
	$(call program,key-issuer,bootstrap)

# The file's name is the extension's name in Lambda's logs.
build-ExtensionLayer:
	$(call program,extension,extensions/causeway)
	install -m 755 "$(ROOT)/extension/layer/causeway-wrapper" "$(ARTIFACTS_DIR)/causeway-wrapper"
	install -m 644 "$(ROOT)/extension/layer/causeway-preload.cjs" "$(ARTIFACTS_DIR)/causeway-preload.cjs"

build-ConfigurationLayer:
	$(if $(ARTIFACTS_DIR),,$(error `sam build` runs this target, with ARTIFACTS_DIR set))
	cd "$(ROOT)" && $(CARGO) run --quiet --locked --package causeway -- bundle $(CAUSEWAY_POLICIES) --output "$(CURDIR)/mesh.bundle"
	install -D -m 644 "$(CURDIR)/mesh.bundle" "$(ARTIFACTS_DIR)/causeway/mesh.bundle"
