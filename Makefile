# pve-gpu-tools: build, install, try, test.
#
#   make            the tools, optimised, in target/release
#   make demo       the main job on a recorded Proxmox VE host
#   make test       all tests (installs what they need, where it may)
#   make install    below DESTDIR and PREFIX
#   make deb        one package for Debian 12 and 13 (Proxmox VE 8 and 9), in target
#   make static     the tools without shared libraries, in target/static
#   make help       the operator's pipelines: host-vfio, host-driver, ct-gpu, ...

CARGO   ?= cargo
PREFIX  ?= /usr/local
DESTDIR ?=
TOOLS    = gpu-iommu-groups gpu-vfio-bind lxc-gpu-conf nv-runfile nv-version-check vgpu-profile-set

bindir      = $(DESTDIR)$(PREFIX)/bin
mandir      = $(DESTDIR)$(PREFIX)/share/man
datadir     = $(DESTDIR)$(PREFIX)/share/pve-gpu-tools
docdir      = $(DESTDIR)$(PREFIX)/share/doc/pve-gpu-tools
bashdir     = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
# what a distribution's packages bring has a place of its own in Debian
zshdir      = $(DESTDIR)$(PREFIX)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
unitdir     = $(DESTDIR)$(PREFIX)/lib/systemd/system
fishdir     = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

.PHONY: all build static install uninstall deb demo recorded-host test test-slow lab bench campaign lint regen picture clean

all: build

build:
	$(CARGO) build --locked --release $(TOOLS:%=-p %)

# For rescue systems and images that hold nothing else. The target is named so that what runs while building
# (procedural macros) is built as usual.
static: host = $(shell rustc -vV | sed -n 's/^host: //p')
static:
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --locked --profile crt-static --target $(host) $(TOOLS:%=-p %)
	install -d target/static
	install -m 755 $(TOOLS:%=target/$(host)/crt-static/%) target/static

# Every file that is installed; packages are made from it.
install: build
	install -d $(bindir) $(mandir)/man1 $(mandir)/man5 $(mandir)/man7 $(datadir)/schema $(datadir)/kubernetes \
		$(docdir) $(bashdir) $(zshdir) $(fishdir) $(unitdir)
	install -m 755 $(TOOLS:%=target/release/%) $(bindir)
	for section in 1 5 7; do install -m 644 man/*.$$section $(mandir)/man$$section || exit 1; done
	install -m 644 shared/record/schema/*.json $(datadir)/schema
	install -m 755 tests/record-machine $(datadir)/record-machine
	$(call placed,bins/lxc-gpu-conf/package/hookscript,$(datadir)/hookscript,755)
	$(call placed,bins/nv-version-check/package/cron,$(datadir)/nv-version-check.cron,644)
	install -m 755 shared/pipelines/support-bundle $(datadir)/support-bundle
	for unit in bins/*/package/*.service bins/*/package/*.timer; do \
		$(call placed,$$unit,$(unitdir)/$$(basename $$unit),644) || exit 1; \
	done
	install -m 644 bins/vgpu-profile-set/package/kubernetes/* $(datadir)/kubernetes
	$(call placed,shared/pipelines/pipelines.mk,$(datadir)/Makefile,644)
	install -m 644 README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE $(wildcard man/*.svg) $(docdir)
	for t in $(TOOLS); do \
		install -m 644 completions/$$t.bash $(bashdir)/$$t && \
		install -m 644 completions/_$$t $(zshdir)/_$$t && \
		install -m 644 completions/$$t.fish $(fishdir)/$$t.fish || exit 1; \
	done

# FILE,AT,MODE: one that names other installed files does so below PREFIX.
placed = sed -e 's,/usr/bin/,$(PREFIX)/bin/,g' -e 's,/usr/share/,$(PREFIX)/share/,g' $(1) >$(2) && chmod $(3) $(2)

uninstall:
	rm -f $(TOOLS:%=$(bindir)/%)
	rm -f $(patsubst man/%,$(mandir)/man1/%,$(wildcard man/*.1)) $(patsubst man/%,$(mandir)/man5/%,$(wildcard man/*.5)) \
		$(patsubst man/%,$(mandir)/man7/%,$(wildcard man/*.7))
	rm -f $(TOOLS:%=$(bashdir)/%) $(TOOLS:%=$(zshdir)/_%) $(TOOLS:%=$(fishdir)/%.fish)
	for unit in bins/*/package/*.service bins/*/package/*.timer; do rm -f $(unitdir)/$$(basename $$unit) || exit 1; done
	rm -rf $(datadir) $(docdir)

deb: build
	shared/package/build-deb target

# The README's first command: no GPU and no Proxmox VE needed.
demo:
	$(CARGO) build --locked --release $(TOOLS:%=-p %)
	$(CARGO) build --locked --quiet -p testbed --bin machine
	tests/demo

# A Proxmox VE host to try the pipelines on: ROOT=target/recorded-host
recorded-host:
	$(CARGO) build --locked --quiet -p testbed --bin machine
	rm -rf target/recorded-host
	target/debug/machine build pve9-two-gpus target/recorded-host
	@echo 'now: make ct-gpu CTID=901 GPU=0000:2b:00.0 VERSION=550.163.01 DRY=1 ROOT=target/recorded-host'

test:
	tests/run

# Minutes instead of seconds: other distributions' toolchains.
test-slow:
	tests/run-slow

# Scenarios in a real kernel under QEMU; `make test` runs them all.
lab: build
	tests/lab/run $(SCENARIOS)

# Every tool killed, refused and fed with rubbish at every point; `make test` tries a few
# of each. Half an hour; ONLY="NAME..." runs some, without writing the table.
campaign:
	$(CARGO) build --locked --quiet --workspace --bins
	$(CARGO) run --locked --quiet -p campaign -- $(CAMPAIGN) $(if $(ONLY),$(ONLY),--write tests/CAMPAIGN.md)

# All parts, and tests/BENCH.md from them; PARTS="lister bind" prints only these.
bench: build
	$(CARGO) run --locked --release --quiet -p bench -- target/release $(or $(PARTS),--write tests/BENCH.md)

lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	tests/shell-scripts | xargs shellcheck -S warning

# Manual pages and completions, from the tools' own definitions; then what README and the recipes
# show, from real runs (as root, with /dev/fuse: a model of the kernel is mounted).
regen:
	BLESS=1 $(CARGO) test --locked --quiet -p testbed --test generated what_is_committed
	$(CARGO) build --locked --quiet $(TOOLS:%=-p %)
	BLESS=1 $(CARGO) test --locked --quiet -p testbed --test documents what_happens

# The picture of the flow; needs graphviz.
picture:
	dot -Tsvg man/pve-gpu-tools.dot >man/pve-gpu-tools.svg

clean:
	$(CARGO) clean

# The operator's pipelines, with what is built here where it is; 'make help' lists them.
include shared/pipelines/pipelines.mk
$(pipelines) drift-versions drift-containers drift-vgpu: export PATH := $(CURDIR)/target/release:$(PATH)
