# machine: no-iommu
# reset: none
# needs: gpu-vfio-bind
# Without an IOMMU: refused, nothing touched.

tool gpu-vfio-bind bind 01:00
expect_rc 4
says 'the IOMMU is off'
driver_is 0000:01:00.0 nvidia
driver_is 0000:01:00.1 snd_hda_intel
override_is 0000:01:00.0 null
