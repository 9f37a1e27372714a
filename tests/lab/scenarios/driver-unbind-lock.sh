# machine: disguised
# driver: any
# reset: boot
# only: lab
# needs: gpu-vfio-bind
# contract: yes
# unbindLock of a vGPU host's driver: what it answers, and that bind asks and keeps it while it unbinds.

gpu=0000:02:00.0
lock=/proc/driver/nvidia/gpus/$gpu/unbindLock
absent $lock
vgpu_host_driver
minor=$(sed -n 's/^Device Minor:[^0-9]*//p' /proc/driver/nvidia/gpus/$gpu/information)
mknod -m 666 /dev/nvidia$minor c 195 "$minor"
attr_is $lock '0\n'
set_attr $lock ''
set_attr $lock 1
attr_is $lock '1\n'
note "an open while it is locked: $(raw open /dev/nvidia$minor)"
set_attr $lock 0
attr_is $lock '0\n'
note "not while the driver counts a user"
hold_hidden "$minor"
set_attr $lock 1
attr_is $lock '0\n'
within 8 tool gpu-vfio-bind bind 02:00
expect_rc 4
statuses refused
driver_is $gpu nvidia
let_go
within 8 tool gpu-vfio-bind bind 02:00
expect_rc 0
driver_is $gpu vfio-pci
within 8 tool gpu-vfio-bind release 02:00
expect_rc 0
driver_is $gpu nvidia
attr_is $lock '0\n'
