# machine: two-gpus
# reset: boot
# boots: 3
# needs: lxc-gpu-conf gpu-iommu-groups nv-runfile nv-version-check
# only: lab
# lxc: yes
# runfile: 550.999.01 570.999.02
# pipeline: dev ct-gpu CTID=901 GPU=0000:01:00.0 VERSION=550.999.01
# pipeline: mount ct-gpu CTID=902 GPU=0000:01:00.0 VERSION=550.999.01 STYLE=mount
# pipeline: drift drift
# pipeline: remove-dev ct-remove CTID=901
# pipeline: remove-mount ct-remove CTID=902
# The whole container phase: two containers get a GPU and the driver; the host boots, and nvidia-uvm has another number;
# the host's driver is updated, and the containers' with it; everything is taken away again.

pve_host
both() { # WORD...: with each $id
	for id in 901 902; do "$@"; done
}
# nobody but us vouches for these installers; in the cache they count as fetched
cached() { # VERSION
	run=/lab/mirror/NVIDIA-Linux-x86_64-$1.run
	tool nv-runfile fetch "$1" --mirror file:/lab/mirror --sha256 "$(sha256sum $run | cut -d' ' -f1)"
	expect_rc 0
}
works() {
	for node in nvidia0 nvidiactl nvidia-uvm; do opens_inside "$id" /dev/$node ok; done
	opens_inside "$id" /dev/nvidia1 ENOENT
}
userspace_is() {
	library=$(readlink "$LXC_DIR/$id/rootfs/usr/lib/x86_64-linux-gnu/libcuda.so.1")
	expect_that "$id has $1, not $library" [ "$library" = "libcuda.so.$1" ]
}
starts() {
	tool pct start "$id"
	expect_rc 0
}
clean() {
	tool lxc-gpu-conf check "$id"
	expect_rc 0
	tool nv-version-check --ct "$id" --no-host
	expect_rc 0
}

# what busybox does without and NVIDIA's userspace does not
more_root() { # ROOTFS OWNER
	lib=$1/usr/lib/x86_64-linux-gnu
	mkdir -p "$lib" "$1/usr/bin" "$1/lib64" "$1/var/lib" "$1/var/tmp"
	cp -L /lib/x86_64-linux-gnu/libc.so.6 "$lib/"
	cp -L /lib64/ld-linux-x86-64.so.2 "$1/lib64/"
	ln -s busybox "$1/bin/test"
	chown -hR "$2:$2" "$1"
}

first() {
	host_driver 550.999.01
	cached 550.999.01
	unit pve-gpu-nodes.service
	ct_create 901 unprivileged
	ct_create 902 privileged
	for id in 901 902; do
		sed -i "1,/^rootfs:/s,^rootfs:.*,rootfs: $LXC_DIR/$id/rootfs," "$(ct_conf $id)"
		more_root $LXC_DIR/$id/rootfs $([ $id = 901 ] && echo 100000 || echo 0)
		ct_hook $id
		cp "$(ct_conf $id)" /var/$id.before
		pipeline "$([ $id = 901 ] && echo dev || echo mount)"
		expect_rc 0
		says '"property":"nvidia-smi","expected":"runs","actual":"runs"'
	done
	both works
	both userspace_is 550.999.01
	both clean
	# what the next boot will find another
	major_of nvidia-uvm >/var/uvm
	mkdir -p /etc/modprobe.d
	echo 'options nvidia_uvm uvm_major=300' >/etc/modprobe.d/lab.conf
}

second() {
	expect_that "nvidia-uvm has another number" [ "$(major_of nvidia-uvm)" != "$(cat /var/uvm)" ]
	expect_that "the rule is the old one" grep -q "c $(cat /var/uvm):" "$(ct_conf 902)"
	unit pve-gpu-nodes.service
	expect_that "the rule is right" grep -q "c $(major_of nvidia-uvm):" "$(ct_conf 902)"
	both starts
	both works
	both clean

	# another driver on the host only
	for id in 901 902; do tool pct stop $id; done
	host_driver 570.999.02
	cached 570.999.02
	unit pve-gpu-nodes.service
	tool pct start 901
	expect_rc 255
	says "ct 901 has NVIDIA driver libraries 550.999.01, but the kernel module of the host is 570.999.02"
	pipeline drift
	expect_rc 1
	says '"commands":[["nv-runfile","fetch","570.999.02"],["nv-runfile","install",'
	says '.run","--ct","901"]]'
	# the command that the check names, for each; a stopped container is mounted for it
	for id in 901 902; do
		tool nv-version-check --ct $id --no-host
		expect_rc 1
		hinted
		expect_rc 0
		tool nv-version-check --ct $id --no-host
		expect_rc 0
	done
	both userspace_is 570.999.02
	both starts
	both works
	both clean
	pipeline drift
	expect_rc 0

	for id in 901 902; do
		pipeline "remove-$([ $id = 901 ] && echo dev || echo mount)"
		expect_rc 0
		expect_that "$id's configuration is as it was" cmp /var/$id.before "$(ct_conf $id)"
		opens_inside $id /dev/nvidiactl ENOENT
	done
}

third() {
	unit pve-gpu-nodes.service
	both starts
	for id in 901 902; do
		for node in nvidia0 nvidiactl nvidia-uvm; do opens_inside $id /dev/$node ENOENT; done
		expect_that "$id has nothing of the driver" sh -c "! find $LXC_DIR/$id/rootfs -name '*libcuda*' -o -name 'nvidia-smi' | grep ."
	done
	pipeline drift
	expect_rc 0
}

case $BOOT in
1) first ;;
2) second ;;
3) third ;;
esac
