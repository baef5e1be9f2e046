# The project's one front door. `make test` sets up everything that the tests need and runs all of them.

CARGO ?= cargo
PROGRAMS := authorizer key-issuer extension adapter

.PHONY: help test unit e2e differential programs tools bench profile supply fmt lint sam layers clean-tools

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
	for program in bare adapter authorizer key-issuer; do $(CARGO) build --release --locked -p $$program || exit; done
	RUSTFLAGS='$(RUSTFLAGS) $(PROFILED)' $(CARGO) build --release --locked -p extension --no-default-features \
		--target $(RUST_TARGET) --target-dir target/layer
	install -D target/layer/$(RUST_TARGET)/release/extension target/release/extension
	$(CARGO) build --release --locked --manifest-path tests/bare-extension/Cargo.toml --target-dir target
	$(CARGO) bench --locked -p e2e --bench authorizer
	$(CARGO) bench --locked -p e2e --bench issuer
	tests/tools/install-peers
	$(CARGO) bench --locked -p e2e --bench adapter
	$(CARGO) bench --locked -p e2e --bench egress

# Again after larger changes of the extension, of its dependencies or of the compiler: what has changed since is built as
# if nothing were known of it.
profile: tools ## record what the extension spends its time on, for the compiler: it is built into the layer
	tests/tools/install-peers
	tests/tools/profile $(PROFILE)

# What goes with a release: one SBOM and one text of licences for each program, in target/supply.
supply: ## advisories, licences and sources of the dependencies; SBOMs (CycloneDX) and licence texts of the programs
	tests/tools/install-supply
	PATH="$(CURDIR)/.tools/supply/bin:$$PATH" tests/tools/supply $(PROGRAMS)

fmt: ## format the code
	$(CARGO) fmt --all

lint: ## formatting and clippy, as CI runs them
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --package extension --no-default-features --locked -- -D warnings
	$(CARGO) clippy --package authorizer --locked -- -D warnings

sam: tools ## check and build the SAM template; ARCH=arm64 builds for Graviton
	.tools/bin/sam validate --lint
	@if $(has_target); then .tools/bin/sam build --parameter-overrides Architecture=$(ARCH) && \
		tests/tools/artefacts check .aws-sam/build; \
		else echo 'skipped the build for $(ARCH): $(no_target)' >&2; fi

layers: sam ## the same as zips, with their sizes and checksums, in .aws-sam/zips
	@$(has_target) || { echo 'cannot build for $(ARCH): $(no_target)' >&2; exit 1; }
	tests/tools/artefacts pack .aws-sam/build .aws-sam/zips

sam: export SAM_CLI_TELEMETRY := 0
# Validation needs the name of a region; nothing is asked of it.
sam: export AWS_DEFAULT_REGION ?= eu-central-1

clean-tools: ## remove .tools/
	rm -rf .tools

# --- what `sam build` runs: build-<logical id>, with ARTIFACTS_DIR set, in a scratch folder outside the checkout --------
# Not SAM's own method rust-cargolambda: there cargo-lambda puts panic=abort and a CPU over our release profile, and SAM
# cannot pass the flag that stops it.
ROOT := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
# The processor to build for, as in the template's parameter Architecture: x86_64 or arm64.
ARCH ?= x86_64
export ARCH
$(if $(filter x86_64 arm64,$(ARCH)),,$(error ARCH is $(ARCH); expected x86_64 or arm64))
RUST_TARGET := $(patsubst arm64,aarch64,$(ARCH))-unknown-linux-gnu
# Amazon Linux 2 has glibc 2.26, Amazon Linux 2023 has 2.34: what needs no more than 2.26 runs on both.
LAMBDA_TARGET := $(RUST_TARGET).2.26
has_target = [ -d "$$(rustc --print target-libdir --target $(RUST_TARGET))" ]
no_target = Rust has no standard library for it; `rustup target add $(RUST_TARGET)` gets one
# The arguments of `causeway bundle` but its output; paths are relative to the checkout.
CAUSEWAY_POLICIES ?= examples/bookinfo
# What runs them; the path of a `causeway` that is built already saves building it.
CAUSEWAY ?= $(CARGO) run --quiet --locked --package causeway --

# cargo finds cargo-lambda, and cargo-lambda finds zig.
build-%: export PATH := $(ROOT)/.tools/bin:$(PATH)

# AWS-LC's jitter entropy source costs each cold start 10 to 50 ms; without it the system's generator alone is used.
LAMBDA_ENV := AWS_LC_SYS_NO_JITTER_ENTROPY=1
# AVX2 is what Lambda promises: without the code for AVX-512 each program is 0.7 MB smaller, 0.07 MB zipped.
LAMBDA_ENV += AWS_LC_SYS_CFLAGS=-DMY_ASSEMBLER_IS_TOO_OLD_FOR_512AVX
# The same bytes from every folder and account, and no names of their folders in what is given away.
LAMBDA_RUSTFLAGS = $(RUSTFLAGS) --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo \
	--remap-path-prefix=$(ROOT)=/causeway

# What the extension spends its time on (`make profile`): with it a request takes a quarter fewer instructions, and the
# program two megabytes less memory. It was recorded on x86_64, and for that processor alone it was measured. Under
# cargo-lambda it has no effect yet (ARCHITECTURE.md).
PROFILE := extension/extension.profdata
PROFILED := $(if $(filter x86_64,$(ARCH)),-Cprofile-use=$(ROOT)/$(PROFILE))

# $(call program,PACKAGE,WHERE IN THE ARTEFACT,OTHER ARGUMENTS OF CARGO,OTHER ARGUMENTS OF RUSTC)
define program
	$(if $(ARTIFACTS_DIR),,$(error `sam build` runs this target, with ARTIFACTS_DIR set))
	@command -v cargo-lambda >/dev/null || { echo 'cargo-lambda is missing; `make tools` installs it' >&2; exit 1; }
	@$(has_target) || { echo 'cannot build for $(ARCH): $(no_target)' >&2; exit 1; }
	cd "$(ROOT)" && $(LAMBDA_ENV) RUSTFLAGS='$(LAMBDA_RUSTFLAGS) $(4)' $(CARGO) lambda build --release --locked --disable-optimizations \
		--target $(LAMBDA_TARGET) --package $(1) $(3) --lambda-dir "$(CURDIR)/lambda"
	install -D -m 755 "$(CURDIR)/lambda/$(1)/bootstrap" "$(ARTIFACTS_DIR)/$(2)"
endef

.PHONY: build-Authorizer build-KeyIssuer build-UsagePlansFunction build-ExtensionLayer build-ConfigurationLayer

build-Authorizer:
	$(call program,authorizer,bootstrap)

build-KeyIssuer build-UsagePlansFunction:
	$(call program,key-issuer,bootstrap)

# The file's name is the extension's name in Lambda's logs. Without the inbound side, which is for sidecars alone.
build-ExtensionLayer:
	$(call program,extension,extensions/causeway,--no-default-features,$(PROFILED))
	install -m 755 "$(ROOT)/extension/layer/causeway-wrapper" "$(ARTIFACTS_DIR)/causeway-wrapper"
	install -m 644 "$(ROOT)/extension/layer/causeway-preload.cjs" "$(ARTIFACTS_DIR)/causeway-preload.cjs"

build-ConfigurationLayer:
	$(if $(ARTIFACTS_DIR),,$(error `sam build` runs this target, with ARTIFACTS_DIR set))
	cd "$(ROOT)" && $(CAUSEWAY) bundle $(CAUSEWAY_POLICIES) --output "$(CURDIR)/mesh.bundle"
	install -D -m 644 "$(CURDIR)/mesh.bundle" "$(ARTIFACTS_DIR)/causeway/mesh.bundle"
