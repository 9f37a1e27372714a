# machine: no-iommu
# reset: none
# needs: gpu-iommu-groups
# Without an IOMMU the tool still lists, and says why nothing can be passed through.

absent "$ROOT/sys/bus/pci/devices/0000:01:00.0/iommu_group"
tool gpu-iommu-groups --all
expect_rc 0
says '"address":"0000:01:00.0"'
says '"group":null'
says 'the IOMMU is off'
expect_that "no record has a group" [ "$(grep -c '"group":null' "$OUT")" = "$(grep -c '"type":"pci-device"' "$OUT")" ]
tool gpu-iommu-groups --check 01:00
expect_rc 1

# nor does vfio-pci take a function without a group
set_attr "$ROOT/sys/bus/pci/devices/0000:01:00.1/driver_override" vfio-pci
set_attr "$ROOT/sys/bus/pci/drivers/snd_hda_intel/unbind" 0000:01:00.1
set_attr "$ROOT/sys/bus/pci/drivers/vfio-pci/bind" 0000:01:00.1
says EINVAL
driver_is 0000:01:00.1 none
set_attr "$ROOT/sys/bus/pci/devices/0000:01:00.1/driver_override" '\n'
set_attr "$ROOT/sys/bus/pci/drivers_probe" 0000:01:00.1
driver_is 0000:01:00.1 snd_hda_intel
