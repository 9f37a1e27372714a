# shellcheck shell=bash disable=SC2154
# The release's own initramfs-tools build images with what 'gpu-vfio-bind persist' writes; removal and purge of the
# package treat it as documented. tests/run-slow reads this file.

# Installs a kernel of the lab and builds its first image.
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
	# This writes files and images of the root only, and binds nothing on the host that runs the tests.
	local function
	function=$(inside gpu-iommu-groups --all -q -o jsonl | jq -rs 'map(select(.role == "other"))[-1].address')
	inside gpu-vfio-bind -q persist "$function" --force display,network,container,group,no-gpu >"$root/tmp/persist" || { cat "$root/tmp/persist"; die "persist"; }
	[ "$(tail -n 1 "$root/tmp/persist" | jq -r '.property + " " + .to')" = "reboot_required yes" ] || die "persist reports no reboot"
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
	ok "$1: the image contains the list and vfio-pci, and the script runs before udev"
	inside gpu-vfio-bind -q unpersist --all >/dev/null
	! in_image || die "the image still contains it after unpersist"
	ok "$1: unpersist removes it from the image"
	persist
}

# The host still binds the functions at boot: none of the files belongs to the package.
persisted_and_removed() { # SUITE
	in_image || die "removal takes GPUs from virtual machines"
	! grep -rE '/(gpu-vfio-bind|gpu-iommu-groups) ' "$root/etc/initramfs-tools" || die "a boot script runs a tool of the removed package"
	quietly inside update-initramfs -u -k "$release"
	in_image || die "the image cannot be built without the package"
	ok "$1: after removal, functions are still bound to vfio-pci at boot"
}

persisted_and_purged() { # SUITE
	! in_image || die "the image still contains it after purge"
	ok "$1: purge removes it from the image"
}
