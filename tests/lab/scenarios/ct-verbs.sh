# machine: two-gpus
# reset: boot
# needs: lxc-gpu-conf
# only: lab
# lxc: yes
# 'add' on containers that run, with a driver that answers: it ends when the nodes open inside. The package's
# hookscript lets a start through and is silent, and stops one whose userspace is of another version.

pve_host
nodes
shared='/dev/nvidiactl /dev/nvidia-uvm'
calls() { grep -c "^$1\$" /tmp/pct; }

give() {
	ct_create "$id" "$kind"
	ct_hook "$id"
	tool pct start "$id"
	expect_rc 0
	tool lxc-gpu-conf add "$id" --gpu 0 --style "$style" --no-hotplug --restart --wait 20
	expect_rc 0
	opened /dev/nvidia0 $shared
	expect_that "it was restarted" [ "$(calls "reboot $id")" = 1 ]
	opens_inside "$id" /dev/nvidia-uvm ok
	# everything opens: nothing to restart
	tool lxc-gpu-conf add "$id" --gpu 0 --style "$style" --restart --wait 20
	expect_rc 0
	opened /dev/nvidia0 $shared
	expect_that "it was left alone" [ "$(calls "reboot $id")" = 1 ]
	tool lxc-gpu-conf check "$id"
	expect_rc 0
}
each_kind give

# a start with the package's hookscript, pct holding the lock
start_hooked() {
	tool pct stop "$id"
	expect_rc 0
	tool pct start "$id"
	expect_rc 0
	expect_that "the hook is silent: $(cat $ERR)" [ ! -s $ERR ]
	opens_inside "$id" /dev/nvidia0 ok
}
each_kind start_hooked
within 5 tool flock /run/lock/lxc/pve-config-901.lock lxc-gpu-conf hook 901 post-start
expect_rc 0

# another version of the userspace, seen where the root file system is a directory
rootfs=$LXC_DIR/901/rootfs
mkdir -p "$rootfs/usr/lib/x86_64-linux-gnu"
userspace() {
	echo stand-in >"$rootfs/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.$1"
	ln -sf "libnvidia-ml.so.$1" "$rootfs/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
}
sed -i "1,/^rootfs:/s,^rootfs:.*,rootfs: $rootfs," /etc/pve/lxc/901.conf
userspace 535.1.2
tool pct reboot 901
expect_rc 255
says "ct 901 has NVIDIA driver libraries 535.1.2, but the kernel module of the host is 550.163.01"
userspace 550.163.01
tool pct start 901
expect_rc 0
