# machine: two-gpus
# reset: boot
# only: lab
# needs: vgpu-profile-set
# A host after boot: virtual functions are off. watch has sriov-manage switch them on, sets profiles, repairs what
# somebody clears, hears of a new file, ends at once.

pf=0000:03:00.0
dir=$PCI/$pf
vgpu_card $pf
mkdir -p /usr/lib/nvidia
# as NVIDIA's does it, and as NVIDIA's once without doing anything
cat >/usr/lib/nvidia/sriov-manage <<'END'
#!/bin/sh
echo "$*" >>/tmp/calls
[ "$(grep -c -e -e /tmp/calls)" -gt 1 ] || exit 0
pci=/sys/bus/pci
n=4
[ "$1" = -e ] || n=0
echo $2 >$pci/drivers/nvidia/unbind
echo 10de 26b9 >$pci/drivers/pci-pf-stub/new_id
echo $n >$pci/devices/$2/sriov_numvfs
echo $2 >$pci/drivers/pci-pf-stub/unbind
echo 10de 26b9 >$pci/drivers/pci-pf-stub/remove_id
echo $2 >$pci/drivers/nvidia/bind
END
chmod 755 /usr/lib/nvidia/sriov-manage
type_is() { attr_is "$dir/virtfn$1/nvidia/current_vgpu_type" "$2\\n"; }
alive() { kill -0 $watcher 2>/dev/null; }
until_gone() { while alive; do sleep 0.1; done; }
healthy() { vgpu-profile-set check --health-file /tmp/health >/tmp/healthy 2>&1; }
until_healthy() { until healthy; do sleep 0.2; done; }
while_healthy() { while healthy; do sleep 0.2; done; }
until_told() { until grep -q 'different framebuffer sizes need heterogeneous mode' /tmp/words; do sleep 0.2; done; }

printf '0000:03:00.1=L40S-24Q\n0000:03:00.2=L40S-24Q\n' >/tmp/profiles
tool vgpu-profile-set plan /tmp/profiles
expect_rc 0
says '"property":"sriov_numvfs","from":"0"'
attr_is "$dir/sriov_numvfs" '0\n'

vgpu-profile-set watch /tmp/profiles --interval 2 --health-file /tmp/health >/tmp/changes 2>/tmp/words &
watcher=$!
within 40 attr_is "$dir/sriov_numvfs" '4\n'
within 20 attr_is "$dir/virtfn1/nvidia/current_vgpu_type" '1155\n'
type_is 0 1155
expect_that "sriov-manage was asked again when it had done nothing" [ "$(grep -c -e '-e 0000:03:00.0' /tmp/calls)" = 2 ]

set_attr "$dir/virtfn0/nvidia/current_vgpu_type" 0
within 10 attr_is "$dir/virtfn0/nvidia/current_vgpu_type" '1155\n'
printf '0000:03:00.1=L40S-4Q\n0000:03:00.2=none\n' >/tmp/new
mv /tmp/new /tmp/profiles
within 10 attr_is "$dir/virtfn0/nvidia/current_vgpu_type" '1150\n'
type_is 1 0
within 5 until_healthy
tool vgpu-profile-set check --health-file /tmp/health
expect_rc 0

# what cannot be is told once, and nothing is touched
printf '0000:03:00.1=L40S-4Q\n0000:03:00.2=L40S-24Q\n' >/tmp/new
mv /tmp/new /tmp/profiles
within 10 until_told
within 5 while_healthy
# two more rounds
sleep 4
type_is 0 1150
type_is 1 0
expect_that "one line" [ "$(grep -c 'different framebuffer sizes need heterogeneous mode' /tmp/words)" = 1 ]
tool vgpu-profile-set check --health-file /tmp/health
expect_rc 1

expect_that "it still runs" alive
kill $watcher
within 3 until_gone
wait $watcher
expect_that "well" [ $? = 0 ]
type_is 0 1150

# the next boot finds nothing set
/usr/lib/nvidia/sriov-manage -d $pf
attr_is "$dir/sriov_numvfs" '0\n'
printf '0000:03:00.3=L40S-48Q\n' >/tmp/profiles
tool vgpu-profile-set apply /tmp/profiles
expect_rc 0
statuses changed
type_is 2 1156
