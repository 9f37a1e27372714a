# machine: two-gpus
# reset: boot
# needs: vgpu-profile-set
# Profiles onto virtual functions: set, read back, left alone when right, refused as a whole when they do not fit.

pf=0000:03:00.0
dir=$ROOT/sys/bus/pci/devices/$pf
vgpu_card $pf
vgpu_vfs $pf 4
vf() { basename "$(readlink "$dir/virtfn$1")"; }
type_is() { attr_is "$dir/virtfn$1/nvidia/current_vgpu_type" "$2\\n"; }
ask() { printf '%s\n' "$@" >/tmp/profiles; }

tool vgpu-profile-set list $pf
expect_rc 0
says '"vfs_enabled":4'
says '"creatable":["L40S-1B","L40S-1Q","L40S-2Q","L40S-4Q","L40S-24Q","L40S-48Q"]'

note "two halves, by name and by id"
ask "$(vf 0)=L40S-24Q" "$(vf 1)=1155 # the same"
tool vgpu-profile-set plan /tmp/profiles
expect_rc 0
statuses planned
type_is 0 0
tool vgpu-profile-set apply /tmp/profiles
expect_rc 0
statuses changed
says 'id 1155 is L40S-24Q here'
type_is 0 1155
type_is 1 1155
type_is 2 0
tool vgpu-profile-set apply /tmp/profiles
expect_rc 0
statuses unchanged
tool vgpu-profile-set check /tmp/profiles
expect_rc 0

note "a third half, and another size: nothing is written"
ask "$(vf 2)=L40S-24Q"
tool vgpu-profile-set apply /tmp/profiles
expect_rc 4
says 'need 72 GiB of framebuffer, the GPU has 48 GiB'
ask "$(vf 2)=L40S-1Q"
tool vgpu-profile-set apply /tmp/profiles
expect_rc 4
says 'different framebuffer sizes need heterogeneous mode'
ask "$(vf 2)=L40S-6Q"
tool vgpu-profile-set apply /tmp/profiles
expect_rc 2
says 'has no profile L40S-6Q'
type_is 0 1155
type_is 2 0

note "the whole card otherwise, by count: what is there goes first"
printf '{"type":"vgpu-assignment","address":"%s","profile":"NVIDIA L40S-4Q","count":3}\n' $pf >/tmp/profiles
tool vgpu-profile-set apply /tmp/profiles
expect_rc 0
statuses changed
for n in 0 1 2; do type_is $n 1150; done
type_is 3 0
tool vgpu-profile-set check /tmp/profiles
expect_rc 0

note "somebody else clears one"
set_attr "$dir/virtfn1/nvidia/current_vgpu_type" 0
expect_rc 0
tool vgpu-profile-set check /tmp/profiles
expect_rc 1
tool vgpu-profile-set apply /tmp/profiles
expect_rc 0
statuses unchanged changed
type_is 1 1150

note "what is listed is put back"
vgpu-profile-set ${ROOT:+--root $ROOT} list >/tmp/listed
tool vgpu-profile-set clear $pf
expect_rc 0
for n in 0 1 2 3; do type_is $n 0; done
tool vgpu-profile-set clear $pf
statuses unchanged
tool vgpu-profile-set apply /tmp/listed
expect_rc 0
for n in 0 1 2; do type_is $n 1150; done
tool vgpu-profile-set clear --all
expect_rc 0
type_is 0 0
