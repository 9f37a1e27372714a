# machine: two-gpus
# reset: none
# needs: gpu-vfio-bind
# A GPU whose IOMMU group has a network card in it: refused with the stranger named; with the whole group it goes.

tool gpu-vfio-bind bind 05:01
expect_rc 4
says 0000:05:02.0
statuses refused
driver_is 0000:05:01.0 bochs-drm
driver_is 0000:05:02.0 e1000
override_is 0000:05:01.0 null

# it draws the console too, so that this needs --force
tool gpu-vfio-bind bind 05:01 --group --force display,network,container,group
expect_rc 0
driver_is 0000:05:01.0 vfio-pci
driver_is 0000:05:02.0 vfio-pci
within 2 exists "$ROOT/dev/vfio/$(group_of 0000:05:01.0)"
tool gpu-vfio-bind release 05:01 05:02
expect_rc 0
driver_is 0000:05:01.0 bochs-drm
driver_is 0000:05:02.0 e1000
