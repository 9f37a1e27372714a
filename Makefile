# pve-gpu-tools: build, install, try, test.
#
#   make            the tools, optimised, in target/release
#   make demo       the main job on a recorded Proxmox VE host
#   make test       all tests (installs what they need, where it may)
#   make install    below DESTDIR and PREFIX

CARGO   ?= cargo
PREFIX  ?= /usr/local
DESTDIR ?=
TOOLS    = gpu-iommu-groups gpu-vfio-bind lxc-gpu-conf nv-runfile nv-version-check vgpu-profile-set

bindir      = $(DESTDIR)$(PREFIX)/bin
mandir      = $(DESTDIR)$(PREFIX)/share/man
datadir     = $(DESTDIR)$(PREFIX)/share/pve-gpu-tools
docdir      = $(DESTDIR)$(PREFIX)/share/doc/pve-gpu-tools
bashdir     = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir      = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
unitdir     = $(DESTDIR)$(PREFIX)/lib/systemd/system
fishdir     = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

.PHONY: all build install uninstall demo test test-slow lab campaign bench lint regen clean

all: build

build:
	$(CARGO) build --locked --release $(TOOLS:%=-p %)

install: build
	install -d $(bindir) $(mandir)/man1 $(mandir)/man5 $(mandir)/man7 $(datadir)/schema $(docdir) $(bashdir) $(zshdir) $(fishdir) $(unitdir)
	install -m 755 $(TOOLS:%=target/release/%) $(bindir)
	install -m 644 $(TOOLS:%=man/%.1) $(mandir)/man1
	install -m 644 man/pve-gpu-records.5 $(mandir)/man5
	install -m 644 man/pve-gpu-groups.7 $(mandir)/man7
	install -m 644 shared/record/schema/*.json $(datadir)/schema
	install -m 755 tests/record-machine $(datadir)/record-machine
	sed 's,/usr/bin/,$(PREFIX)/bin/,' bins/lxc-gpu-conf/package/hookscript >$(datadir)/hookscript
	sed -i 's,/usr/share/,$(PREFIX)/share/,' $(datadir)/hookscript
	chmod 755 $(datadir)/hookscript
	sed 's,/usr/bin/,$(PREFIX)/bin/,' bins/nv-version-check/package/cron >$(datadir)/nv-version-check.cron
	for unit in bins/*/package/*.service bins/*/package/*.timer; do \
		sed 's,/usr/bin/,$(PREFIX)/bin/,' $$unit >$(unitdir)/$$(basename $$unit) && \
		chmod 644 $(unitdir)/$$(basename $$unit) || exit 1; \
	done
	install -d $(datadir)/kubernetes
	install -m 644 bins/vgpu-profile-set/package/kubernetes/* $(datadir)/kubernetes
	install -m 644 README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE $(docdir)
	for t in $(TOOLS); do \
		install -m 644 completions/$$t.bash $(bashdir)/$$t && \
		install -m 644 completions/_$$t $(zshdir)/_$$t && \
		install -m 644 completions/$$t.fish $(fishdir)/$$t.fish || exit 1; \
	done

uninstall:
	rm -f $(TOOLS:%=$(bindir)/%) $(TOOLS:%=$(mandir)/man1/%.1) $(mandir)/man5/pve-gpu-records.5 $(mandir)/man7/pve-gpu-groups.7
	rm -f $(TOOLS:%=$(bashdir)/%) $(TOOLS:%=$(zshdir)/_%) $(TOOLS:%=$(fishdir)/%.fish)
	for unit in bins/*/package/*.service bins/*/package/*.timer; do rm -f $(unitdir)/$$(basename $$unit) || exit 1; done
	rm -rf $(datadir) $(docdir)

# The README's first command: no GPU and no Proxmox VE needed.
demo:
	$(CARGO) build --locked --release $(TOOLS:%=-p %)
	$(CARGO) build --locked --quiet -p testbed --bin machine
	tests/demo

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

bench: build
	$(CARGO) run --locked --release --quiet -p testbed --bin bench -- target/release
	$(CARGO) run --locked --release --quiet -p modelkernel --bin bench-bind -- target/release
	$(CARGO) run --locked --release --quiet -p modelkernel --bin bench-vgpu -- target/release

lint:
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	shellcheck -S warning tests/run tests/run-slow tests/demo tests/record-machine tests/lab/run tests/lab/setup \
		tests/lab/guest-init tests/lab/guest-one tests/lab/lib-guest.sh tests/lab/lib-model.sh \
		tests/lab/lib-lxc.sh tests/lab/lxc/autodev-hook tests/lab/lxc/prestart-hook tests/lab/lxc/pct tests/lxc/driver-packages tests/lxc/dnf-container bins/lxc-gpu-conf/package/hookscript .ci/run

# Manual pages and completions, from the tools' own definitions.
regen:
	BLESS=1 $(CARGO) test --locked --quiet -p testbed --test generated what_is_committed

clean:
	$(CARGO) clean
