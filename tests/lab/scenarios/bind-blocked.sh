# machine: two-gpus
# reset: none
# needs: gpu-vfio-bind
# A GPU that is in use: refused, the process named where there is one, and nothing touched. Forced or not,
# the tool comes back in its time.

unchanged() {
	driver_is 0000:01:00.0 nvidia
	driver_is 0000:01:00.1 snd_hda_intel
	override_is 0000:01:00.0 null
	override_is 0000:01:00.1 null
}
hold 0
within 8 tool gpu-vfio-bind bind 01:00
expect_rc 4
says "$HOLDER"
statuses refused
unchanged
within 5 tool gpu-vfio-bind bind 01:00 --force display,group --timeout 3
expect_rc 4
unchanged
let_go
