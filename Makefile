# PAIRS="10-18 16-17" or PAIRS=all chooses the pairs of versions to test on; a sample otherwise.

CARGO ?= cargo
PREFIX ?= /usr/local

.PHONY: build test check install

build:
	$(CARGO) build --release --locked

test: export PAIRS := $(PAIRS)
test:
	$(CARGO) test --locked

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(MAKE) test
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

install: build
	install -D -m 755 target/release/flare "$(DESTDIR)$(PREFIX)/bin/flare"
