# machine: two-gpus
# reset: boot
# needs: lxc-gpu-conf
# only: lab
# lxc: yes
# A MIG instance: a container is given both of its capabilities and no other, and nobody the right to reconfigure.

pve_host
nodes
shared='/dev/nvidiactl /dev/nvidia-uvm'

nvidia_unload
nvidia_load gpus="$LAB_NVIDIA" mig=1
nodes
for cap in 21 22; do exists /dev/nvidia-caps/nvidia-cap$cap; done
for cap in 1 23; do
	absent /dev/nvidia-caps/nvidia-cap$cap
	mknod -m 444 /dev/nvidia-caps/nvidia-cap$cap c "$(major_of nvidia-caps)" $cap
done

instance() {
	ct_create "$id" "$kind"
	tool pct start "$id"
	expect_rc 0
	tool lxc-gpu-conf add "$id" --mig 2/0 --style "$style" --no-hotplug --restart --wait 20
	expect_rc 0
	opened /dev/nvidia0 $shared /dev/nvidia-caps/nvidia-cap21 /dev/nvidia-caps/nvidia-cap22
	for cap in 1 23; do opens_inside "$id" /dev/nvidia-caps/nvidia-cap$cap ENOENT; done
	tool lxc-gpu-conf check "$id"
	expect_rc 0
	ct_stop "$id"
}
each_kind instance
