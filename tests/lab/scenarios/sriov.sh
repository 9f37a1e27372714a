# machine: two-gpus
# reset: none
# contract: yes
# How virtual functions come and go.

pf=0000:03:00.0
dir=$ROOT/sys/bus/pci/devices/$pf

attr_is "$dir/sriov_totalvfs" '4\n'
attr_is "$dir/sriov_numvfs" '0\n'
absent "$dir/virtfn0"
set_attr "$dir/sriov_numvfs" 0
expect_rc 0
set_attr "$dir/sriov_numvfs" 5
says ERANGE
set_attr "$dir/sriov_numvfs" all
says EINVAL
set_attr "$dir/sriov_drivers_autoprobe" 0
set_attr "$dir/sriov_numvfs" 2
expect_rc 0
attr_is "$dir/sriov_numvfs" '2\n'
exists "$dir/virtfn0"
exists "$dir/virtfn1"
absent "$dir/virtfn2"
for n in 0 1; do
	vf=$(basename "$(readlink "$dir/virtfn$n")")
	note "virtfn$n -> $vf, physfn -> $(basename "$(readlink "$ROOT/sys/bus/pci/devices/$vf/physfn")")"
	driver_is "$vf" none
	override_is "$vf" null
	note "its group is its own: $([ "$(group_of "$vf")" != "$(group_of $pf)" ] && echo yes || echo no)"
done
note "another number of them: only by way of none"
set_attr "$dir/sriov_numvfs" 3
says EBUSY
set_attr "$dir/sriov_numvfs" 2
expect_rc 0
set_attr "$dir/sriov_numvfs" 0
expect_rc 0
absent "$dir/virtfn0"
absent "$ROOT/sys/bus/pci/devices/0000:03:00.1"
set_attr "$dir/sriov_numvfs" 4
exists "$dir/virtfn3"
note "sriov_drivers_autoprobe was 0 when they came: no driver by itself, nor by drivers_probe or bind"
vf=$(basename "$(readlink "$dir/virtfn3")")
set_attr "$ROOT/sys/bus/pci/drivers_probe" "$vf"
driver_is "$vf" none
set_attr "$ROOT/sys/bus/pci/drivers/nvme/bind" "$vf"
driver_is "$vf" none
note "but an override counts"
set_attr "$ROOT/sys/bus/pci/devices/$vf/driver_override" vfio-pci
set_attr "$ROOT/sys/bus/pci/drivers_probe" "$vf"
driver_is "$vf" vfio-pci
set_attr "$dir/sriov_numvfs" 0

note "a PF without a driver, or with one that knows no VFs"
set_attr "$ROOT/sys/bus/pci/drivers/nvme/unbind" $pf
set_attr "$dir/sriov_numvfs" 2
says ENOENT
set_attr "$dir/driver_override" vfio-pci
set_attr "$ROOT/sys/bus/pci/drivers_probe" $pf
driver_is $pf vfio-pci
set_attr "$dir/sriov_numvfs" 2
says ENOENT
set_attr "$ROOT/sys/bus/pci/drivers/vfio-pci/unbind" $pf
note "back to its driver"
set_attr "$dir/driver_override" '\n'
set_attr "$dir/sriov_drivers_autoprobe" 1
set_attr "$ROOT/sys/bus/pci/drivers_probe" $pf
driver_is $pf nvme
attr_is "$dir/sriov_numvfs" '0\n'
