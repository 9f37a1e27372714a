# machine: two-gpus
# reset: none
# contract: yes
# What new_id does: it takes every unbound function with those ids, at once and until it is removed.

gpu=0000:02:00.0
nvidia=$ROOT/sys/bus/pci/drivers/nvidia
vfio=$ROOT/sys/bus/pci/drivers/vfio-pci

set_attr "$vfio/new_id" 10de
says EINVAL
set_attr "$vfio/new_id" 'vendor device'
says EINVAL
set_attr "$vfio/remove_id" '10de 2204'
says ENODEV
note "both cards bound: nothing moves"
set_attr "$vfio/new_id" '10de 2204'
expect_rc 0
driver_is 0000:01:00.0 nvidia
driver_is $gpu nvidia
set_attr "$vfio/new_id" '10de 2204'
says EEXIST
note "an unbound card goes to it with bind, without an override"
set_attr "$nvidia/unbind" $gpu
driver_is $gpu none
set_attr "$vfio/bind" $gpu
expect_rc 0
driver_is $gpu vfio-pci
set_attr "$vfio/unbind" $gpu
set_attr "$vfio/remove_id" '10de 2204'
expect_rc 0
set_attr "$vfio/bind" $gpu
says ENODEV
note "new_id itself probes: every unbound card of these ids is taken"
set_attr "$vfio/new_id" '10de 2204'
driver_is $gpu vfio-pci
driver_is 0000:01:00.0 nvidia
note "removing the id unbinds nothing"
set_attr "$vfio/remove_id" '10de 2204'
driver_is $gpu vfio-pci
set_attr "$vfio/unbind" $gpu
set_attr "$ROOT/sys/bus/pci/drivers_probe" $gpu
driver_is $gpu nvidia
