# shellcheck shell=bash
# For the slow tests, which run in the project's directory: bare roots of Debian releases, and the functions
# that a test consists of.

slow=target/slow
roots=()
passed=0

ok() { passed=$((passed + 1)); echo "ok: $*"; }
die() { echo "slow tests: $*" >&2; exit 1; }

# SUITE: debootstraps it once; each test uses a copy.
base() {
	[ ! -e "$slow/$1.tar" ] || return 0
	mkdir -p "$slow"
	local made
	made=$(mktemp -d)
	debootstrap --variant=minbase "$1" "$made" >"$slow/$1.log" 2>&1 || { tail -n 20 "$slow/$1.log"; return 1; }
	tar -C "$made" --one-file-system -cf "$slow/$1.tar.part" .
	mv "$slow/$1.tar.part" "$slow/$1.tar"
	rm -rf --one-file-system "$made"
}

# SUITE: makes a copy in $root and mounts the file systems that programs expect.
enter() {
	base "$1" || die "cannot make a root of $1"
	root=$(mktemp -d)
	roots+=("$root")
	tar -C "$root" -xf "$slow/$1.tar"
	chmod 755 "$root" # apt downloads as a user of its own
	cp -L /etc/resolv.conf "$root/etc/resolv.conf"
	# Packages must not start services in the root.
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
	chmod 755 "$root/usr/sbin/policy-rc.d"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	mount --bind /dev "$root/dev"
	mount --bind /dev/pts "$root/dev/pts"
	inside apt-get update -qq
}

leave() {
	local at
	for at in "$root/m/var/lib/pve-gpu-tools" "$root/proc" "$root/sys" "$root/dev/pts" "$root/dev"; do
		# A process in the root may still be about to end.
		! mountpoint -q "$at" || umount --lazy "$at"
	done
	rm -rf --one-file-system "$root"
}

leave_all() {
	for root in "${roots[@]}"; do [ ! -d "$root" ] || leave; done
}
trap leave_all EXIT

inside() { # COMMAND...: runs it in $root as on a host
	chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=xterm \
		LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

quietly() { # COMMAND...: shows its output only if it fails
	local log
	log=$(mktemp)
	"$@" >"$log" 2>&1 || { cat "$log"; rm -f "$log"; die "failed: $*"; }
	rm -f "$log"
}
