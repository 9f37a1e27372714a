# machine: two-gpus
# reset: boot
# needs: lxc-gpu-conf
# only: lab
# lxc: yes
# The module is loaded again while containers run: 'check' says what still runs with the nodes of before, and the nodes
# open inside after 'sync' and a restart. Then everything is taken away again.

pve_host
nodes
shared='/dev/nvidiactl /dev/nvidia-uvm'

give() {
	ct_create "$id" "$kind"
	tool lxc-gpu-conf add "$id" --gpu 0 --style "$style"
	expect_rc 0
	ct_start "$id"
}
each_kind give

reload_nvidia 300

# the host's node first: until it is right nothing else can be
tool lxc-gpu-conf check 901
expect_rc 1
says '"cause":"stale-node"'
nodes
runs_with_the_old_one() {
	tool lxc-gpu-conf check "$id"
	expect_rc 1
	says '"cause":"not-restarted"'
	says "\"commands\":[[\"pct\",\"reboot\",\"$id\"]]"
	opens_inside "$id" /dev/nvidia-uvm ENXIO
	tool lxc-gpu-conf hook "$id" post-start
	expect_rc 3
	says "/dev/nvidia-uvm has no driver behind it inside"
}
each_kind runs_with_the_old_one
tool lxc-gpu-conf check 904
says '"cause":"stale-rule"'

mend() {
	tool lxc-gpu-conf sync "$id"
	expect_rc 0
	# the file is right now, and what runs is not: that is seen from inside
	tool lxc-gpu-conf add "$id" --gpu 0 --style "$style" --restart --wait 20
	expect_rc 0
	opened /dev/nvidia0 $shared
	opens_inside "$id" /dev/nvidia-uvm ok
	tool lxc-gpu-conf check "$id"
	expect_rc 0
}
each_kind mend

# the second GPU is not theirs
opens_inside 901 /dev/nvidia1 ENOENT
expect_that "904 may make a node" lxc-attach -n 904 -- /bin/busybox mknod /dev/stolen c 195 1
opens_inside 904 /dev/stolen EPERM

taken() {
	tool lxc-gpu-conf remove "$id" --restart
	expect_rc 0
	for node in nvidia0 nvidiactl nvidia-uvm; do opens_inside "$id" /dev/$node ENOENT; done
}
each_kind taken
expect_that "904 may make a node" lxc-attach -n 904 -- /bin/busybox mknod /dev/mine c 195 0
opens_inside 904 /dev/mine EPERM
