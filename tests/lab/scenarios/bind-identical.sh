# machine: two-gpus
# reset: none
# needs: gpu-vfio-bind
# Of two cards with the same ids only the one that was asked for moves, also when the other is probed later.

tool gpu-vfio-bind bind 02:00
expect_rc 0
driver_is 0000:02:00.0 vfio-pci
driver_is 0000:02:00.1 vfio-pci
driver_is 0000:01:00.0 nvidia
driver_is 0000:01:00.1 snd_hda_intel
override_is 0000:01:00.0 null

set_attr "$ROOT/sys/bus/pci/drivers/nvidia/unbind" 0000:01:00.0
driver_is 0000:01:00.0 none
set_attr "$ROOT/sys/bus/pci/drivers_probe" 0000:01:00.0
driver_is 0000:01:00.0 nvidia

tool gpu-vfio-bind release 02:00
expect_rc 0
driver_is 0000:02:00.0 nvidia
driver_is 0000:02:00.1 snd_hda_intel
override_is 0000:02:00.0 null
override_is 0000:02:00.1 null
