# machine: two-gpus
# reset: none
# needs: gpu-vfio-bind
# Somebody opens the GPU between the check and the unbind: the tool gives up in its time and says so; when
# that process has ended, the same command succeeds.

hold_late 0
within 5 tool gpu-vfio-bind bind 01:00 --timeout 3
expect_rc 3
says '"status":"failed"'
says 'did not finish within 3 s'
says ' in state '
says ' waits in the kernel; do not kill it)'
let_go
within 5 driver_is 0000:01:00.0 none
# the driver looks twice a second, and the writer ends after that
within 5 absent "$ROOT/proc/driver/nvidia/gpus/0000:01:00.0"
sleep 1
tool gpu-vfio-bind bind 01:00
expect_rc 0
driver_is 0000:01:00.0 vfio-pci
driver_is 0000:01:00.1 vfio-pci
tool gpu-vfio-bind release 01:00
expect_rc 0
driver_is 0000:01:00.0 nvidia
driver_is 0000:01:00.1 snd_hda_intel
override_is 0000:01:00.0 null
