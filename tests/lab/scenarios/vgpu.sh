# machine: two-gpus
# reset: boot
# contract: yes
# vGPU files on virtual functions, made as NVIDIA's sriov-manage makes them.

pf=0000:03:00.0
dir=$ROOT/sys/bus/pci/devices/$pf
vgpu_card $pf
note "a plain write is refused"
set_attr "$dir/sriov_numvfs" 4
says ENOENT
vgpu_vfs $pf 4
attr_is "$dir/sriov_numvfs" '4\n'
absent "$dir/nvidia"
for n in 0 1 2 3; do driver_is "$(basename "$(readlink "$dir/virtfn$n")")" nvidia; done

a=$dir/virtfn0/nvidia
b=$dir/virtfn1/nvidia
all='ID    : vGPU Name\n1145  : NVIDIA L40S-1B\n1147  : NVIDIA L40S-1Q\n1148  : NVIDIA L40S-2Q\n1150  : NVIDIA L40S-4Q\n1155  : NVIDIA L40S-24Q\n1156  : NVIDIA L40S-48Q\n'
attr_is "$a/creatable_vgpu_types" "$all"
attr_is "$a/current_vgpu_type" '0\n'
attr_is "$a/placement_id" ENXIO
set_attr "$a/current_vgpu_type" 0
says EPERM
set_attr "$a/current_vgpu_type" 0x47b
says EINVAL
set_attr "$a/current_vgpu_type" 'NVIDIA L40S-1Q'
says EINVAL
set_attr "$a/current_vgpu_type" '1147\n\n'
says EINVAL
set_attr "$a/current_vgpu_type" 99
says EIO
set_attr "$a/current_vgpu_type" 1147
expect_rc 0
attr_is "$a/current_vgpu_type" '1147\n'
attr_is "$a/creatable_vgpu_types" ''
set_attr "$a/current_vgpu_type" 1147
says EPERM
set_attr "$a/current_vgpu_type" '1155\n'
says EPERM
note "the other functions: this size only"
attr_is "$b/creatable_vgpu_types" 'ID    : vGPU Name\n1145  : NVIDIA L40S-1B\n1147  : NVIDIA L40S-1Q\n'
set_attr "$b/current_vgpu_type" 1155
says EIO
set_attr "$a/current_vgpu_type" '0\n'
expect_rc 0
set_attr "$a/current_vgpu_type" 0
says EPERM
attr_is "$b/creatable_vgpu_types" "$all"
note "full: nothing but the header"
set_attr "$a/current_vgpu_type" '1155\n'
set_attr "$b/current_vgpu_type" 1155
expect_rc 0
attr_is "$dir/virtfn2/nvidia/creatable_vgpu_types" 'ID    : vGPU Name\n'
set_attr "$dir/virtfn2/nvidia/current_vgpu_type" 1155
says EIO
