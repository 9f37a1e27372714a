# machine: two-gpus
# reset: none
# needs: gpu-vfio-bind gpu-iommu-groups
# A slot goes to vfio-pci as a whole, once, and comes back to the drivers it had.

gpu=0000:01:00.0
audio=0000:01:00.1
node=$ROOT/dev/vfio/$(group_of $gpu)

tool gpu-vfio-bind bind 01:00
expect_rc 0
driver_is $gpu vfio-pci
driver_is $audio vfio-pci
within 2 exists "$node"

tool gpu-vfio-bind bind 01:00
expect_rc 0
statuses unchanged

tool gpu-vfio-bind release 01:00
expect_rc 0
driver_is $gpu nvidia
driver_is $audio snd_hda_intel
override_is $gpu null
override_is $audio null
within 2 absent "$node"

# the records of the lister as its input
tool gpu-iommu-groups 01:00
expect_rc 0
cp "$OUT" /tmp/records
tool gpu-vfio-bind bind </tmp/records
expect_rc 0
driver_is $gpu vfio-pci
driver_is $audio vfio-pci
tool gpu-iommu-groups --check 01:00
expect_rc 0
tool gpu-vfio-bind release </tmp/records
expect_rc 0
driver_is $gpu nvidia
driver_is $audio snd_hda_intel
