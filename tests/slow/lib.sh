# shellcheck shell=bash
# For the slow tests, which are run from the project's directory: bare roots of Debian releases, and the words
# that a test is written in.

slow=target/slow
roots=()
passed=0

ok() { passed=$((passed + 1)); echo "ok: $*"; }
die() { echo "slow tests: $*" >&2; exit 1; }

# SUITE: debootstraps it once; what follows starts from a copy.
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

# SUITE: a fresh copy in $root, with what programs expect to be mounted.
enter() {
	base "$1" || die "cannot make a root of $1"
	root=$(mktemp -d)
	roots+=("$root")
	tar -C "$root" -xf "$slow/$1.tar"
	chmod 755 "$root" # apt fetches as a user of its own
	cp -L /etc/resolv.conf "$root/etc/resolv.conf"
	# what starts services has to leave them alone in here
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
		# lazily: what ran in there may be about to end
		! mountpoint -q "$at" || umount --lazy "$at"
	done
	rm -rf --one-file-system "$root"
}

leave_all() {
	for root in "${roots[@]}"; do [ ! -d "$root" ] || leave; done
}
trap leave_all EXIT

inside() { # COMMAND...: in $root, as if it were the machine
	chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=xterm \
		LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
}

quietly() { # COMMAND...: what it says is shown only if it fails
	local log
	log=$(mktemp)
	"$@" >"$log" 2>&1 || { cat "$log"; rm -f "$log"; die "failed: $*"; }
	rm -f "$log"
}
