# machine: disguised
# driver: any
# reset: boot
# only: lab
# needs: gpu-vfio-bind gpu-iommu-groups
# contract: yes
# Bind and release with the driver as it is; refused for a process that has the node open; and the driver's load when
# vfio-pci has every card.

tool gpu-vfio-bind bind 02:00
expect_rc 0
driver_is 0000:02:00.0 vfio-pci
driver_is 0000:02:00.1 vfio-pci
driver_is 0000:01:00.0 nvidia
tool gpu-vfio-bind release 02:00
expect_rc 0
driver_is 0000:02:00.0 nvidia
driver_is 0000:02:00.1 snd_hda_intel

minor=$(sed -n 's/^Device Minor:[^0-9]*//p' /proc/driver/nvidia/gpus/0000:02:00.0/information)
mknod -m 666 /dev/nvidia$minor c 195 "$minor"
hold_nonblock "$minor"
within 8 tool gpu-vfio-bind bind 02:00
expect_rc 4
says "$HOLDER"
statuses refused
driver_is 0000:02:00.0 nvidia
let_go

tool gpu-vfio-bind bind 01:00 02:00
expect_rc 0
rmmod nvidia
note "every card is vfio-pci's: modprobe nvidia says $(modprobe nvidia 2>&1 | sed 's/.*: //')"
absent /proc/driver/nvidia
tool gpu-vfio-bind release 01:00
expect_rc 0
driver_is 0000:01:00.1 snd_hda_intel
