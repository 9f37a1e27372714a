# machine: two-gpus
# reset: boot
# needs: lxc-gpu-conf
# only: lab
# lxc: yes
# What becomes of containers with the configurations that lxc-gpu-conf refuses to write or warns of.

pve_host
nodes
conf=/etc/pve/lxc/901.conf
ct_create 901 privileged
cp $conf /tmp/plain.conf
main() { # LINE...: the main section gets them
	{
		sed '/^$/,$d' /tmp/plain.conf
		printf '%s\n' "$@"
	} >$conf
}
ctl='/dev/nvidiactl dev/nvidiactl none bind,optional,create=file'
uvm='/dev/nvidia-uvm dev/nvidia-uvm none bind,optional,create=file'
refuses() { # STYLE
	cp $conf /tmp/refused.conf
	tool lxc-gpu-conf add 901 --gpu 0 --style "$1"
	expect_rc 4
	expect_that "$conf is as it was" cmp /tmp/refused.conf $conf
}

# one node both ways: the hook finds the target there already
main 'dev0: /dev/nvidiactl,mode=0666' "lxc.mount.entry: $ctl"
ct_starts_not 901 'Failed to run autodev hooks'
main "lxc.mount.entry: $ctl"
refuses dev
main 'dev0: /dev/nvidiactl,mode=0666'
refuses mount

# 'deny: a' empties the list of allowed devices after Proxmox VE filled it: its own nodes are gone from it
main 'dev0: /dev/nvidiactl,mode=0666' 'lxc.cgroup2.devices.deny: a' 'lxc.cgroup2.devices.allow: c 1:* rwm'
ct_start 901
opens_inside 901 /dev/nvidiactl EPERM
opens_inside 901 /dev/null ok
ct_stop 901
refuses dev
# as the last rule it leaves an empty list, and for that LXC denies nothing at all
main 'dev0: /dev/nvidiactl,mode=0666' 'lxc.cgroup2.devices.deny: a'
ct_start 901
opens_inside 901 /dev/nvidiactl ok
expect_that "901 may make a node" lxc-attach -n 901 -- /bin/busybox mknod /dev/other c 195 1
opens_inside 901 /dev/other ok
ct_stop 901
refuses dev

# a rule that LXC cannot parse is none: its log says so, and the container starts
main "lxc.mount.entry: $ctl" 'lxc.cgroup2.devices.allow: c 195:* rw # the GPU'
ct_start 901
expect_that "LXC tells" grep -q 'ERROR.*Failed to parse device rule devices.allow=c 195:' /tmp/start.log
opens_inside 901 /dev/nvidiactl EPERM
ct_stop 901
# nothing is read behind three letters
main "lxc.mount.entry: $ctl" 'lxc.cgroup2.devices.allow: c 195:* rwm # the GPU'
ct_start 901
opens_inside 901 /dev/nvidiactl ok
ct_stop 901

# a rule may name the node, with whatever number that has
main "lxc.mount.entry: $uvm" 'lxc.cgroup2.devices.allow: /dev/nvidia-uvm rw'
ct_start 901
opens_inside 901 /dev/nvidia-uvm ok
ct_stop 901
reload_nvidia 300
nodes
ct_start 901
opens_inside 901 /dev/nvidia-uvm ok
ct_stop 901

# where the node is missing that rule is none, and an optional mount entry leaves a file in its place
rm /dev/nvidia-uvm
ct_start 901
expect_that "LXC tells" grep -q 'ERROR.*Failed to parse device rule devices.allow=/dev/nvidia-uvm' /tmp/start.log
expect_that "a file instead of the node" lxc-attach -n 901 -- /bin/sh -c '[ -f /dev/nvidia-uvm ]'
ct_stop 901
