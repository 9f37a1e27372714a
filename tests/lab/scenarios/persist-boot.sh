# machine: two-gpus
# reset: boot
# only: lab
# needs: gpu-vfio-bind
# What persist writes for the initramfs does at boot: of two identical cards the named one, and only while it is
# still the one that was meant. A boot is played: no function has a driver, VFIO is not loaded, the script runs, then
# native drivers look for their cards.

# this guest has no image to rebuild: what stands for one is a list of what would be in it
mkdir -p /usr/sbin /etc /boot
image=/boot/initrd.img-$(uname -r)
touch "$image" "/boot/vmlinuz-$(uname -r)"
printf '#!/bin/sh\necho "$*" >>/tmp/images\nfind /etc /lib/modules >%s\n' "$image" >/usr/sbin/update-initramfs
printf '#!/bin/sh\ncat "$1"\n' >/usr/sbin/lsinitramfs
chmod 755 /usr/sbin/update-initramfs /usr/sbin/lsinitramfs
script=/etc/initramfs-tools/scripts/init-top/gpu-vfio-bind

boot() {
	for f in 01:00.0 01:00.1 02:00.0 02:00.1; do
		[ ! -e $PCI/0000:$f/driver ] || echo 0000:$f >$PCI/0000:$f/driver/unbind
		echo >$PCI/0000:$f/driver_override
	done
	modprobe -r vfio-pci
	sh $script
	for f in 01:00.0 01:00.1 02:00.0 02:00.1; do
		echo 0000:$f >/sys/bus/pci/drivers_probe
	done
}

tool gpu-vfio-bind persist 02:00
expect_rc 0
says '"property":"reboot_required","from":null,"to":"yes"'
expect_that "the image was rebuilt" grep -qx -e '-u -k all' /tmp/images
driver_is 0000:02:00.0 nvidia
tool gpu-vfio-bind status 02:00
expect_rc 1

boot
driver_is 0000:02:00.0 vfio-pci
driver_is 0000:02:00.1 vfio-pci
override_is 0000:02:00.0 vfio-pci
driver_is 0000:01:00.0 nvidia
driver_is 0000:01:00.1 snd_hda_intel
override_is 0000:01:00.0 null
exists "/dev/vfio/$(group_of 0000:02:00.0)"
tool gpu-vfio-bind status 02:00
expect_rc 0
tool gpu-vfio-bind persist 02:00
statuses unchanged

# another card at that address by now: it is left alone, and the kernel log says so
sed -i 's/^\(0000:02:00.0 0x10de\) 0x[0-9a-f]*/\1 0xdead/' /etc/gpu-vfio-bind.list
boot
driver_is 0000:02:00.0 nvidia
override_is 0000:02:00.0 null
driver_is 0000:02:00.1 vfio-pci
expect_that "the kernel log says so" sh -c "dmesg | grep -q 'gpu-vfio-bind: 0000:02:00.0: left alone'"
tool gpu-vfio-bind status 02:00
expect_rc 1
says 'another function is at this address now'

# taken out again nothing is left of it
tool gpu-vfio-bind unpersist --all
expect_rc 0
absent $script
absent /etc/gpu-vfio-bind.list
