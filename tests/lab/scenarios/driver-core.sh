# machine: two-gpus
# reset: none
# contract: yes
# What the PCI driver core answers to driver_override, bind, unbind and drivers_probe.

gpu=0000:02:00.0
override=$ROOT/sys/bus/pci/devices/$gpu/driver_override
nvidia=$ROOT/sys/bus/pci/drivers/nvidia
vfio=$ROOT/sys/bus/pci/drivers/vfio-pci
probe=$ROOT/sys/bus/pci/drivers_probe

note "driver_override: unset it reads (null); a value is only stored"
attr_is "$override" '(null)\n'
set_attr "$override" vfio-pci
expect_rc 0
attr_is "$override" 'vfio-pci\n'
driver_is $gpu nvidia
note "a write of nothing changes nothing"
set_attr "$override" ''
attr_is "$override" 'vfio-pci\n'
note "no such driver: stored all the same"
set_attr "$override" 'no-such-driver\n'
attr_is "$override" 'no-such-driver\n'
note "a line feed clears it, and so does a zero byte"
set_attr "$override" '\n'
override_is $gpu null
set_attr "$override" pci-stub
set_attr "$override" '\0'
override_is $gpu null
note "only the first line counts"
set_attr "$override" 'pci-stub\nvfio-pci\n'
attr_is "$override" 'pci-stub\n'
note "a page of it is too much"
set_attr "$override" "$(printf '%04095d' 0)"
says EINVAL
set_attr "$override" '\n'

note "unbind: only from the driver that has it, by its full lower-case address"
set_attr "$vfio/unbind" $gpu
says ENODEV
set_attr "$nvidia/unbind" 02:00.0
says ENODEV
set_attr "$nvidia/unbind" ffff:02:00.0
says ENODEV
driver_is $gpu nvidia

note "bind: bound elsewhere and no match; bound elsewhere and a match"
set_attr "$vfio/bind" $gpu
says ENODEV
set_attr "$override" vfio-pci
set_attr "$vfio/bind" $gpu
says EBUSY
set_attr "$override" '\n'

note "unbind, with a line feed"
set_attr "$nvidia/unbind" "$gpu\\n"
expect_rc 0
driver_is $gpu none
set_attr "$nvidia/unbind" $gpu
says ENODEV
note "bind without an override: no match"
set_attr "$vfio/bind" $gpu
says ENODEV
note "bind to another override than the driver"
set_attr "$override" pci-stub
set_attr "$vfio/bind" $gpu
says ENODEV
note "drivers_probe when nothing matches: success, and nothing bound"
set_attr "$override" no-such-driver
set_attr "$probe" $gpu
expect_rc 0
driver_is $gpu none
set_attr "$nvidia/bind" $gpu
says ENODEV
set_attr "$probe" ffff:02:00.0
says ENODEV

note "bind with it"
absent "$ROOT/dev/vfio/$(group_of $gpu)"
set_attr "$override" vfio-pci
set_attr "$vfio/bind" $gpu
expect_rc 0
driver_is $gpu vfio-pci
within 2 exists "$ROOT/dev/vfio/$(group_of $gpu)"
note "again"
set_attr "$vfio/bind" $gpu
says EBUSY
set_attr "$probe" $gpu
expect_rc 0
note "the override may go while it is bound"
set_attr "$override" '\n'
driver_is $gpu vfio-pci
note "a bridge, and a function that its driver does not know"
set_attr "$ROOT/sys/bus/pci/devices/0000:04:00.0/driver_override" vfio-pci
set_attr "$vfio/bind" 0000:04:00.0
says EINVAL
set_attr "$probe" 0000:04:00.0
set_attr "$ROOT/sys/bus/pci/devices/0000:04:00.0/driver_override" '\n'
set_attr "$ROOT/sys/bus/pci/drivers/nvme/bind" 0000:04:00.0
says ENODEV

note "and back"
set_attr "$vfio/unbind" $gpu
absent "$ROOT/dev/vfio/$(group_of $gpu)"
set_attr "$probe" $gpu
driver_is $gpu nvidia
override_is $gpu null
