# machine: vm-host
# reset: boot
# boots: 3
# needs: gpu-iommu-groups gpu-vfio-bind
# only: lab
# pipeline: later host-vfio GPU=0000:01:00.0 NOW=0
# pipeline: now host-vfio GPU=0000:01:00.0
# The whole VM phase: a host whose IOMMU is off is prepared, boots, has the GPU on vfio-pci before its driver could
# take it, gives it to a VM, and takes it back for good.

gpu=0000:01:00.0
audio=0000:01:00.1
boots_host

first() {
	driver_is $gpu nvidia
	absent $PCI/$gpu/iommu_group
	# nothing can be bound without an IOMMU: the pipeline has prepared the boot by then, and stops there
	pipeline now
	expect_rc 4
	says 'the IOMMU is off'
	driver_is $gpu nvidia
	driver_is $audio snd_hda_intel
	pipeline later
	says '"property":"reboot_required"'
	expect_that "the next boot asks for the IOMMU" grep -qw intel_iommu=on /boot/cmdline
	expect_that "it has an image" [ -s /boot/initrd ]
}

second() {
	driver_is $gpu vfio-pci
	driver_is $audio vfio-pci
	override_is $gpu vfio-pci
	driver_is 0000:02:00.0 nvidia
	driver_is 0000:02:00.1 snd_hda_intel
	expect_that "nvidia never had it" sh -c "[ ! -e /proc/driver/nvidia/gpus/$gpu ]"
	tool gpu-vfio-bind status 01:00
	expect_rc 0
	tool gpu-iommu-groups --check 01:00
	expect_rc 0
	# done again, everything is as it should be
	pipeline now
	expect_rc 0
	statuses unchanged ok

	vm_starts $gpu
	tool gpu-vfio-bind release 01:00
	expect_rc 4
	says "$VM"
	driver_is $gpu vfio-pci
	vm_ends

	tool gpu-vfio-bind unpersist 01:00
	expect_rc 0
	tool gpu-vfio-bind release 01:00
	expect_rc 0
	driver_is $gpu nvidia
	driver_is $audio snd_hda_intel
}

third() {
	for function in $gpu 0000:02:00.0; do driver_is $function nvidia; done
	for function in $audio 0000:02:00.1; do driver_is $function snd_hda_intel; done
	override_is $gpu null
	absent /etc/gpu-vfio-bind.list
	absent /etc/modprobe.d/gpu-vfio-bind.conf
	exists $PCI/$gpu/iommu_group
}

case $BOOT in
1) first ;;
2) second ;;
3) third ;;
esac
