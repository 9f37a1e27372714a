# shellcheck shell=bash disable=SC2154
# The package in bare roots of the Debian releases below Proxmox VE 8 and 9: it installs from Debian's own archive,
# everything in it works, and purge leaves nothing. tests/run-slow reads this file.

tools=(bins/*)
tools=("${tools[@]##*/}")
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)

# DIR: makes a package of an older version in DIR, with the files and scripts of the package in target.
older() {
	local tree
	tree=$(mktemp -d)
	mkdir -p "$1"
	dpkg-deb -R target/pve-gpu-tools_*.deb "$tree"
	sed -i 's/^Version: .*/Version: 0.0.1-1/' "$tree/DEBIAN/control"
	quietly dpkg-deb --root-owner-group --build "$tree" "$1/pve-gpu-tools_0.0.1-1.deb"
	rm -rf "$tree"
}

# FILE: lists every file of $root with its type, mode, owner, target and content, without mounts, the files of apt
# and dpkg, and the caches that triggers rebuild.
listed() {
	(
		cd "$root" || exit
		find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./tmp -o -path ./m -o -path ./var/lib/apt \
			-o -path ./var/lib/dpkg -o -path ./var/cache/apt -o -path ./var/log -o -path ./var/cache/man \
			-o -path ./var/cache/ldconfig -o -path ./var/cache/debconf -o -path ./run/systemd \) -prune -o -printf '%p %y %m %U:%G %l\n'
		# Initramfs images contain times.
		find ./etc ./usr ./var/lib -xdev \( -path ./var/lib/apt -o -path ./var/lib/dpkg -o -path ./var/lib/initramfs-tools \
			\) -prune -o -type f -print0 | xargs -0 sha256sum
	) | sort >"$1"
}

same_as_before() { # WHAT
	listed "$root/tmp/after"
	diff "$root/tmp/before" "$root/tmp/after" || die "$1"
}

install_deb() { quietly inside apt-get install -y -qq "$@"; }

# The package alone, without what it recommends.
bare() {
	listed "$root/tmp/before"
	install_deb --no-install-recommends "/tmp/$deb"
	local tool
	for tool in "${tools[@]}"; do
		[ "$(inside "$tool" --version)" = "$tool $version" ] || die "$tool --version"
	done
	inside dpkg --verify pve-gpu-tools
	quietly inside apt-get purge -y -qq pve-gpu-tools
	same_as_before "bare: purge leaves files"
	ok "$1: apt installs it alone into a bare root, ${#tools[@]} tools start, purge leaves no file"
}

# SUITE: man finds and shows each page as installed, and mandoc's lint is clean.
pages() {
	local page name number=0
	for page in "$root"/usr/share/man/man[157]/{gpu-,lxc-gpu,nv-,vgpu-,pve-gpu}*.gz; do
		[ -e "$page" ] || continue
		name=$(basename "$page" .gz)
		[ "$(inside man -w "${name##*.}" "${name%.*}")" = "${page#"$root"}" ] || die "man -w ${name%.*}"
		inside man -P cat "${name##*.}" "${name%.*}" >"$root/tmp/page" 2>/dev/null || die "man ${name%.*}"
		grep -q SYNOPSIS "$root/tmp/page" || grep -q DESCRIPTION "$root/tmp/page" || die "man ${name%.*} is empty"
		[ -z "$(inside mandoc -T lint -W warning "${page#"$root"}")" ] || die "mandoc: $name"
		number=$((number + 1))
	done
	[ "$number" = "$(find man -name '*.[157]' | wc -l)" ] || die "$number manual pages are installed"
	ok "$1: $number manual pages are found, shown and well formed"
}

# SUITE: each shell on a terminal completes a word that only our completions know, and runs the result.
shells() {
	local shell out
	# as in the home directory of a person
	mkdir "$root/tmp/home"
	printf 'autoload -U compinit\ncompinit -u\nunsetopt beep\n' >"$root/tmp/home/.zshrc"
	printf '. /usr/share/bash-completion/bash_completion\n' >"$root/tmp/home/.bashrc"
	for shell in bash zsh fish; do
		out=$(printf 'gpu-vfio-bind unper\t--help\nexit\n' | inside env HOME=/tmp/home timeout 120 script -qec "$shell -i" /dev/null) || true
		grep -q 'Usage: gpu-vfio-bind unpersist' <<<"$out" || { echo "$out"; die "$shell does not complete"; }
	done
	ok "$1: bash, zsh and fish complete 'gpu-vfio-bind unper'"
}

units() {
	local unit
	local files=("$root"/usr/lib/systemd/system/{pve-gpu-,nv-version-,vgpu-profile-}*)
	local names=("${files[@]##*/}")
	inside systemd-analyze verify "${names[@]}" >"$root/tmp/verify" 2>&1 || { cat "$root/tmp/verify"; die "systemd-analyze verify"; }
	[ ! -s "$root/tmp/verify" ] || { cat "$root/tmp/verify"; die "systemd-analyze verify reports problems"; }
	for unit in "${names[@]}"; do
		case $(inside systemctl is-enabled "$unit" || true) in disabled | static) ;; *) die "$unit is enabled" ;; esac
	done
	ok "$1: systemd accepts ${#names[@]} units, none is enabled"
}

# On a recorded host: a pipeline of the installed Makefile (the package recommends make, so apt installed it), and
# the README's pipeline.
pipeline() {
	cp -a "$slow/machine/." "$root/m"
	inside make -s -f /usr/share/pve-gpu-tools/Makefile host-vfio GPU=0000:2c:00.0 ROOT=/m DRY=1 >"$root/tmp/phase" ||
		die "make host-vfio"
	[ "$(grep -c '"to":"vfio-pci","status":"planned"' "$root/tmp/phase")" = 4 ] || { cat "$root/tmp/phase"; die "make host-vfio"; }
	ok "$1: the operator's Makefile plans to bind a slot to vfio-pci"
	mkdir -p "$root/var/lib/pve-gpu-tools" "$root/m/var/lib/pve-gpu-tools"
	# the tools' own directory, as on a real host
	mount --bind "$root/var/lib/pve-gpu-tools" "$root/m/var/lib/pve-gpu-tools"
	local add='gpu-iommu-groups --root /m --vendor 10de | lxc-gpu-conf --root /m add 901'
	inside sh -c "$add" >"$root/tmp/first" || die "$add"
	inside sh -c "$add" >"$root/tmp/second" || die "$add, again"
	grep -q '^dev1: /dev/nvidia0,mode=0666$' "$root/m/etc/pve/lxc/901.conf" || die "901.conf has no GPU"
	grep -q '"status":"changed"' "$root/tmp/first" || die "nothing was changed"
	! grep -q '"status":"changed"' "$root/tmp/second" || die "changed twice"
	umount "$root/m/var/lib/pve-gpu-tools"
	[ -s "$root/var/lib/pve-gpu-tools/lxc/901.json" ] || die "901.json is missing"
	ok "$1: a container of a recorded host gets its GPUs; the second run changes nothing"
}

# Files and links that an administrator and the tools make in the course of a year.
lived_in() {
	quietly inside systemctl enable pve-gpu-nodes.service vgpu-profile-set.service nv-version-check.timer
	mkdir -p "$root/var/lib/systemd/timers" "$root/var/cache/pve-gpu-tools/runfiles"
	touch "$root/var/lib/systemd/timers/stamp-nv-version-check.timer"
	echo incomplete >"$root/var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-x86_64-550.163.01.run.part"
	cp "$root/usr/share/pve-gpu-tools/hookscript" "$root/tmp/hookscript"
	sed -n '/^[0-9]/s/.* root //p' "$root/usr/share/pve-gpu-tools/nv-version-check.cron" >"$root/tmp/cron"
}

# Copies of the hookscript and of the cron line do no harm without the package.
orphans() {
	inside /tmp/hookscript 901 pre-start >"$root/tmp/said" 2>&1 || die "the copy of the hookscript keeps containers from starting"
	grep -q 'lxc-gpu-conf is not installed' "$root/tmp/said" || die "the copy of the hookscript reports nothing"
	[ -s "$root/tmp/cron" ] || die "the cron file has no line"
	[ -z "$(inside sh /tmp/cron 2>&1)" ] || die "the copy of the cron line sends mail"
}

package_part() { # SUITE
	echo "== the package in $1"
	enter "$1"
	cp "$slow/old/"*.deb "$root/tmp/old.deb"
	deb=$(basename "$(ls target/pve-gpu-tools_*.deb)")
	cp "target/$deb" "$root/tmp/"
	bare "$1"
	# what it recommends, and what the tests need
	install_deb "/tmp/$deb" man-db mandoc bash-completion zsh fish systemd initramfs-tools kmod udev busybox zstd
	kernel
	quietly inside apt-get purge -y -qq pve-gpu-tools
	listed "$root/tmp/before"

	install_deb /tmp/old.deb
	install_deb "/tmp/$deb"
	[ "$(inside dpkg-query -f '${Version}' -W pve-gpu-tools)" = "$version-1" ] || die "the older version was not upgraded"
	inside dpkg --verify pve-gpu-tools
	ok "$1: it upgrades an older version"
	pages "$1"
	shells "$1"
	units "$1"
	pipeline "$1"
	lived_in
	persisted "$1"
	quietly inside apt-get remove -y -qq pve-gpu-tools
	orphans
	persisted_and_removed "$1"
	quietly inside apt-get purge -y -qq pve-gpu-tools
	persisted_and_purged "$1"
	rmdir --ignore-fail-on-non-empty "$root/var/lib/systemd/timers"
	same_as_before "$1: purge leaves files"
	ok "$1: purge leaves no file and no link, also after a year's use"
	leave
}
