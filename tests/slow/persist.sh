# shellcheck shell=bash disable=SC2154
# What 'gpu-vfio-bind persist' writes, taken up by the release's own initramfs-tools, and what becomes of it
# when the package goes. Read by tests/run-slow.

# A kernel of the lab's, and its first image.
kernel() {
	quietly tests/lab/setup
	local kernel
	for kernel in target/lab/*/root; do :; done # any of them
	release=$(basename "$kernel"/lib/modules/*)
	mkdir -p "$root/lib/modules"
	cp -r "$kernel/lib/modules/$release" "$root/lib/modules/"
	cp "$kernel/boot/"*"-$release" "$root/boot/"
	quietly inside depmod "$release"
	quietly inside update-initramfs -c -k "$release"
}

persist() {
	# files and images are the root's; nothing of this machine is bound
	local function
	function=$(inside gpu-iommu-groups --all -q -o jsonl | jq -rs 'map(select(.role == "other"))[-1].address')
	inside gpu-vfio-bind -q persist "$function" --force >"$root/tmp/persist" || { cat "$root/tmp/persist"; die "persist"; }
	[ "$(tail -n 1 "$root/tmp/persist" | jq -r '.property + " " + .to')" = "reboot_required yes" ] || die "no reboot required?"
}

in_image() {
	inside lsinitramfs "/boot/initrd.img-$release" >"$root/tmp/lsinitramfs" || die "lsinitramfs"
	grep -q gpu-vfio-bind "$root/tmp/lsinitramfs"
}

persisted() { # SUITE
	persist
	inside sh -c "unmkinitramfs /boot/initrd.img-$release /tmp/image"
	local order
	order=$(find "$root/tmp/image" -path '*init-top/ORDER' -exec grep -o 'init-top/[a-z-]*' {} + | sed 's,.*/,,')
	grep -qx gpu-vfio-bind <<<"$order" || die "the image has no script"
	[ "$(grep -nx gpu-vfio-bind <<<"$order" | cut -d: -f1)" -lt "$(grep -nx udev <<<"$order" | cut -d: -f1)" ] ||
		die "the script comes after udev"
	[ -n "$(find "$root/tmp/image" -name "vfio-pci.ko*")" ] || die "the image has no vfio-pci"
	rm -rf "$root/tmp/image"
	ok "$1: the image holds list and vfio-pci, and the script comes before udev"
	inside gpu-vfio-bind -q unpersist --all >/dev/null
	! in_image || die "unpersist left the image as it was"
	ok "$1: unpersist leaves nothing of it in the image"
	persist
}

# Machines boot with it as they did: nothing in it is the package's.
persisted_and_removed() { # SUITE
	in_image || die "removal took GPUs from virtual machines"
	! grep -rE '/(gpu-vfio-bind|gpu-iommu-groups) ' "$root/etc/initramfs-tools" || die "a boot script calls what is gone"
	quietly inside update-initramfs -u -k "$release"
	in_image || die "the image cannot be made without the package"
	ok "$1: removal leaves what goes to VFIO at boot, which needs nothing of the package"
}

persisted_and_purged() { # SUITE
	! in_image || die "purge left the image as it was"
	ok "$1: purge takes it out of the image"
}
