# pve-gpu-tools: build, install, try, test.
#
#   make            build the tools, optimised, in target/release
#   make demo       build two tools without optimisation and run them on a recorded Proxmox VE host
#   make test       run all tests but the slow ones; as root it installs the Debian packages that they need
#   make install    install below DESTDIR and PREFIX
#   make deb        build one package for Debian 12 and 13 (Proxmox VE 8 and 9) in target
#   make static     build the tools without shared libraries in target/static
#   make help       list the operator's pipelines: host-vfio, host-driver, ct-gpu, ...

CARGO   ?= cargo
PREFIX  ?= /usr/local
DESTDIR ?=
TOOLS    = gpu-iommu-groups gpu-vfio-bind lxc-gpu-conf nv-runfile nv-version-check vgpu-profile-set

bindir      = $(DESTDIR)$(PREFIX)/bin
mandir      = $(DESTDIR)$(PREFIX)/share/man
datadir     = $(DESTDIR)$(PREFIX)/share/pve-gpu-tools
docdir      = $(DESTDIR)$(PREFIX)/share/doc/pve-gpu-tools
bashdir     = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
# Debian keeps the completions of packages apart from the administrator's.
zshdir      = $(DESTDIR)$(PREFIX)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
unitdir     = $(DESTDIR)$(PREFIX)/lib/systemd/system
fishdir     = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

.PHONY: all build static install uninstall deb demo recorded-host test test-slow lab bench campaign lint regen picture clean

all: build

build:
	$(CARGO) build --locked --release $(TOOLS:%=-p %)

# For rescue systems and images that contain nothing else. With a target named, the static flag does not reach
# procedural macros, which run during the build.
static: host = $(shell rustc -vV | sed -n 's/^host: //p')
static:
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --locked --release --target $(host) $(TOOLS:%=-p %)
	install -d target/static
	install -m 755 $(TOOLS:%=target/$(host)/release/%) target/static

# Every file that is installed. The package contains the same files.
install: build
	install -d $(bindir) $(mandir)/man1 $(mandir)/man5 $(mandir)/man7 $(datadir)/schema $(datadir)/kubernetes $(datadir)/monitoring \
		$(docdir) $(bashdir) $(zshdir) $(fishdir) $(unitdir)
	install -m 755 $(TOOLS:%=target/release/%) $(bindir)
	for section in 1 5 7; do install -m 644 man/*.$$section $(mandir)/man$$section || exit 1; done
	install -m 644 shared/record/schema/*.json $(datadir)/schema
	install -m 755 tests/record-machine $(datadir)/record-machine
	$(call for_prefix,bins/lxc-gpu-conf/package/hookscript,$(datadir)/hookscript,755)
	$(call for_prefix,bins/gpu-vfio-bind/package/vm-hookscript,$(datadir)/vm-hookscript,755)
	$(call for_prefix,bins/vgpu-profile-set/package/vgpu-hookscript,$(datadir)/vgpu-hookscript,755)
	$(call for_prefix,bins/nv-version-check/package/cron,$(datadir)/nv-version-check.cron,644)
	install -m 755 shared/pipelines/support-bundle $(datadir)/support-bundle
	for unit in bins/*/package/*.service bins/*/package/*.timer; do \
		$(call for_prefix,$$unit,$(unitdir)/$$(basename $$unit),644) || exit 1; \
	done
	install -m 644 bins/vgpu-profile-set/package/kubernetes/* $(datadir)/kubernetes
	install -m 644 bins/nv-version-check/package/monitoring/* $(datadir)/monitoring
	$(call for_prefix,shared/pipelines/pipelines.mk,$(datadir)/Makefile,644)
	install -m 644 README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE $(wildcard man/*.svg) $(docdir)
	for t in $(TOOLS); do \
		install -m 644 completions/$$t.bash $(bashdir)/$$t && \
		install -m 644 completions/_$$t $(zshdir)/_$$t && \
		install -m 644 completions/$$t.fish $(fishdir)/$$t.fish || exit 1; \
	done

# FILE,PATH,MODE: installs FILE as PATH; the paths of other installed files in it are those below PREFIX.
for_prefix = sed -e 's,/usr/bin/,$(PREFIX)/bin/,g' -e 's,/usr/share/,$(PREFIX)/share/,g' $(1) >$(2) && chmod $(3) $(2)

uninstall:
	rm -f $(TOOLS:%=$(bindir)/%)
	rm -f $(patsubst man/%,$(mandir)/man1/%,$(wildcard man/*.1)) $(patsubst man/%,$(mandir)/man5/%,$(wildcard man/*.5)) \
		$(patsubst man/%,$(mandir)/man7/%,$(wildcard man/*.7))
	rm -f $(TOOLS:%=$(bashdir)/%) $(TOOLS:%=$(zshdir)/_%) $(TOOLS:%=$(fishdir)/%.fish)
	for unit in bins/*/package/*.service bins/*/package/*.timer; do rm -f $(unitdir)/$$(basename $$unit) || exit 1; done
	rm -rf $(datadir) $(docdir)

# By way of debian/; `dpkg-buildpackage -us -uc -b` does the same, with its results in the parent directory.
deb:
	mkdir -p target
	rm -f target/pve-gpu-tools_*
	DEB_DIR=target dpkg-buildpackage -us -uc -b -tc \
		--buildinfo-option=-utarget --buildinfo-file=target/pve-gpu-tools.buildinfo \
		--changes-option=-utarget --changes-file=target/pve-gpu-tools.changes
	@ls target/pve-gpu-tools_*.deb

# The README's first command. It needs no GPU and no Proxmox VE, and builds only what it runs.
demo:
	$(CARGO) build --locked -p gpu-iommu-groups -p lxc-gpu-conf -p testbed --bin gpu-iommu-groups --bin lxc-gpu-conf --bin machine
	tests/demo

# Makes a Proxmox VE host to try the pipelines on: ROOT=target/recorded-host
recorded-host:
	$(CARGO) build --locked --quiet -p testbed --bin machine
	rm -rf target/recorded-host
	target/debug/machine build pve9-two-gpus target/recorded-host
	@echo 'now: make ct-gpu CTID=901 GPU=0000:2b:00.0 VERSION=550.163.01 DRY=1 ROOT=target/recorded-host'

test:
	tests/run

# The package in bare Debian 12 and 13 systems, the static build, and the build with Debian 13's own cargo.
test-slow:
	tests/run-slow

# Runs scenarios in a real kernel under QEMU; `make test` runs all of them.
lab: build
	tests/lab/run $(SCENARIOS)

# Kills every tool, refuses its system calls and gives it invalid input, at every point; `make test` tries a few
# of each. It takes half an hour, and writes its table to target/campaign.md. ONLY="NAME..." runs some and prints theirs.
campaign:
	$(CARGO) build --locked --quiet --workspace --bins
	$(CARGO) run --locked --quiet -p campaign -- $(CAMPAIGN) $(if $(ONLY),$(ONLY),--write target/campaign.md)

# Measures all parts and writes target/bench.md; PARTS="lister bind" measures only these.
bench: build
	$(CARGO) run --locked --release --quiet -p bench -- target/release $(or $(PARTS),--write target/bench.md)

lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	tests/shell-scripts | xargs shellcheck -S warning

# Writes manual pages and completions from the tools' own definitions, then the runs that README and the recipes
# show, from real ones. This needs root and /dev/fuse, because a model of the kernel is mounted.
regen:
	BLESS=1 $(CARGO) test --locked --quiet -p testbed --test generated what_is_committed
	$(CARGO) build --locked --quiet $(TOOLS:%=-p %)
	BLESS=1 $(CARGO) test --locked --quiet -p testbed --test documents what_happens

# Draws the picture of the flow; needs graphviz.
picture:
	dot -Tsvg man/pve-gpu-tools.dot >man/pve-gpu-tools.svg

clean:
	$(CARGO) clean

# The operator's pipelines, with the tools built here; 'make help' lists them.
include shared/pipelines/pipelines.mk
$(pipelines) drift-versions drift-containers drift-vgpu: export PATH := $(CURDIR)/target/release:$(PATH)
