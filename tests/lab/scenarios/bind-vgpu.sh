# machine: two-gpus
# reset: boot
# needs: gpu-vfio-bind
# only: lab
# A card with vGPUs is not for vfio-pci, and neither are its virtual functions.

pf=0000:03:00.0
dir=$ROOT/sys/bus/pci/devices/$pf
pci=$ROOT/sys/bus/pci
nvidia_unload
set_attr "$pci/drivers/nvme/unbind" $pf
nvidia_load gpus="$LAB_NVIDIA,$pf" vgpu_host=1
modprobe pci-pf-stub
set_attr "$pci/drivers/nvidia/unbind" $pf
set_attr "$pci/drivers/pci-pf-stub/new_id" '10de 26b9'
set_attr "$dir/sriov_numvfs" 4
set_attr "$pci/drivers/pci-pf-stub/unbind" $pf
set_attr "$pci/drivers/pci-pf-stub/remove_id" '10de 26b9'
set_attr "$pci/drivers/nvidia/bind" $pf
vf=$(basename "$(readlink "$dir/virtfn0")")
driver_is "$vf" nvidia
set_attr "$dir/virtfn0/nvidia/current_vgpu_type" 1147
expect_rc 0

tool gpu-vfio-bind bind "$vf"
expect_rc 4
tool gpu-vfio-bind bind $pf
expect_rc 4
driver_is "$vf" nvidia
driver_is $pf nvidia
override_is "$vf" null
override_is $pf null
attr_is "$dir/virtfn0/nvidia/current_vgpu_type" '1147\n'
