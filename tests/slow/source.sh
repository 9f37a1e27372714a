# shellcheck shell=bash disable=SC2154
# The project itself, built in a bare Debian 13 with Debian's own cargo. tests/run-slow reads this file.

source_part() {
	echo "== Debian 13 with its own cargo"
	enter trixie
	quietly inside apt-get install -y -qq --no-install-recommends cargo gcc libc6-dev make
	ok "$(inside cargo --version)"
	mkdir "$root/src"
	git ls-files -z | tar --null -T - -c | tar -x -C "$root/src"
	# The crates are copied into the root: this tests the compiler, not the network.
	mkdir "$root/src/.cargo"
	cargo vendor --quiet --locked "$root/vendor" >/dev/null
	cat >"$root/src/.cargo/config.toml" <<-'EOF'
		[source.crates-io]
		replace-with = "vendored"
		[source.vendored]
		directory = "/vendor"
	EOF
	inside make -C /src demo >"$root/demo.log" 2>&1 || { cat "$root/demo.log"; die "make demo"; }
	grep -q '^dev1: /dev/nvidia0,mode=0666$' "$root/demo.log" || { cat "$root/demo.log"; die "make demo"; }
	ok "make demo, with rust-version $(grep -m1 '^rust-version' Cargo.toml | cut -d'"' -f2)"
	quietly inside make -C /src install PREFIX=/usr
	inside gpu-iommu-groups --version
	inside lxc-gpu-conf --version
	ok "make install"
	leave
}
