# machine: disguised
# driver: any
# reset: boot
# only: lab
# needs: gpu-vfio-bind gpu-iommu-groups
# contract: yes
# A card that is held from inside the kernel, which no list of processes shows: bind returns in its time, its writer
# sleeps and uses no processor time, later runs name it, and once the holder lets go the function is where bind said.

gpu=0000:02:00.0
minor=$(sed -n 's/^Device Minor:[^0-9]*//p' /proc/driver/nvidia/gpus/$gpu/information)
hold_hidden "$minor"
within 8 tool gpu-vfio-bind bind 02:00 --timeout 3
expect_rc 3
writer=$(sed -n 's/.*process \([0-9][0-9]*\).*/\1/p' $ERR $OUT | head -n 1)
expect_that "the record names the writer" [ -n "$writer" ]
state() { sed -n 's/^State:[^A-Z]*\([A-Z]\).*/\1/p' "/proc/$writer/status"; }
ticks() { awk '{ print $14 + $15 }' "/proc/$writer/stat"; }
note "the writer's state: $(state)"
for signal in INT TERM HUP PIPE; do kill -$signal "$writer"; done
before=$(ticks)
sleep 10
# a writer that spins has a thousand ticks then
used=$(($(ticks) - before))
expect_that "the writer sleeps after INT, TERM, HUP and PIPE, and has not used $used ticks in 10 s" [ $used -lt 10 ]
note "the link to the driver is gone, the driver still has the card"
driver_is $gpu none
exists /proc/driver/nvidia/gpus/$gpu

within 8 tool gpu-vfio-bind bind 02:00 --timeout 3
expect_rc 4
says "$writer"
within 8 tool gpu-vfio-bind release 02:00 --timeout 3
expect_rc 4
says "$writer"
within 8 tool gpu-vfio-bind status 02:00
says "$writer"
within 8 tool gpu-iommu-groups --check 02:00
expect_rc 1
note "another card can be moved meanwhile"
within 8 tool gpu-vfio-bind bind 01:00
expect_rc 0
driver_is 0000:01:00.0 vfio-pci
let_go
gone() { [ ! -e "/proc/$writer" ]; }
expect_that "the writer has ended" lab_until 5 gone
within 5 absent /proc/driver/nvidia/gpus/$gpu
driver_is $gpu none
within 8 tool gpu-vfio-bind bind 02:00
expect_rc 0
driver_is $gpu vfio-pci
