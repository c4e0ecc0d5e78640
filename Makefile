# make demo   one login to a CA host, one to a legacy host, one denial explained; leaves nothing running
# make test   everything that CI runs
# make check  what takes seconds: format, lints, documentation, dependency policy
# make bench  numbers beside OpenBao and plain ssh, as ratios; writes $CARGO_TARGET_DIR/bench/summary.json
# make soak   long fuzz, load and fault runs (minutes to hours); not part of `make test`

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TERM_COLOR ?= never
BIN := $(CARGO_TARGET_DIR)/debug

.PHONY: demo test check bench soak deps build portable lint doc deny unit fault scenarios clean

demo: deps build
	@$(BIN)/eic-demo

test: deps lint doc build unit fault scenarios
	@echo "make test: all passed"

check: lint doc deny

deps:
	@scripts/install-deps

build:
	cargo build --locked --workspace --bins

lint:
	cargo fmt --all --check
	scripts/check-module-docs
	cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

deny:
	@if command -v cargo-deny >/dev/null; then cargo deny --locked check bans licenses sources; \
	else echo "cargo-deny is not installed (cargo install cargo-deny@0.20.2): dependency policy not checked"; fi

# The agent as it is released: for any glibc from 2.17 on. Both programs; `scripts/build-portable` alone adds aarch64.
portable:
	scripts/build-portable x86_64

unit: portable
	cargo test --locked --workspace --exclude eic-lab
	cargo test --locked --package eic-lab --lib --bins

# The same CA with named crash points compiled in, under a name of its own.
fault:
	cargo build --locked --workspace --bin eic-ca-fault --features eic-ca/fault-injection

# Real sshd, ssh and moto in network namespaces; several labs at once, one per core and one more. Rooms with an older
# glibc take the portable agents.
scenarios: build fault portable
	cargo test --locked --package eic-lab --tests -- --test-threads=3

# The agents that are measured are the released ones.
bench: deps portable
	cargo build --locked --release --workspace --bins
	@EIC_LAB_RELEASED=$(CARGO_TARGET_DIR)/portable/$(shell uname -m) $(CARGO_TARGET_DIR)/release/eic-bench

soak: deps build fault portable
	cargo test --locked --package eic-lab --tests -- --ignored --test-threads=1
	cargo test --locked --package eic-agent --test service -- --ignored --test-threads=1
	scripts/fuzz

clean:
	cargo clean
