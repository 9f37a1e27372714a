# machine: two-gpus
# reset: boot
# needs: lxc-gpu-conf
# only: lab
# lxc: yes
# A container with dev[n], as 'lxc-gpu-conf add' writes them: it opens what it was given and has nothing else, and
# a major number that moved does not touch its configuration.

pve_host
nodes

# both GPUs, unprivileged
ct_create 901 unprivileged
tool lxc-gpu-conf add 901 --gpu all
expect_rc 0
expect_that "901 has dev[n]" grep -q '^dev[0-9]*: /dev/nvidia-uvm,mode=0666$' /etc/pve/lxc/901.conf
# one GPU, privileged: there the list of allowed devices counts
ct_create 902 privileged
tool lxc-gpu-conf add 902 --gpu 0000:02:00.0
expect_rc 0
cp /etc/pve/lxc/901.conf /etc/pve/lxc/902.conf /tmp/

both_work() {
	ct_start 901
	opens_inside 901 /dev/nvidia0 ok
	# mode=0666: not for root alone
	for node in nvidia0 nvidia1 nvidiactl nvidia-uvm; do opens_inside 901 /dev/$node ok 1000; done
	ct_start 902
	for node in nvidia1 nvidiactl nvidia-uvm; do opens_inside 902 /dev/$node ok; done
	# a GPU that it was not given: no node, and one that it makes itself does not open
	opens_inside 902 /dev/nvidia0 ENOENT
	expect_that "902 may make a node" lxc-attach -n 902 -- /bin/busybox mknod /dev/stolen c 195 0
	opens_inside 902 /dev/stolen EPERM
}
both_work

# the driver knows that the container has the GPU open, and lets go when it ends
lxc-attach -n 901 -- /bin/raw hold /dev/nvidia0 >/tmp/held &
HOLDERS="$HOLDERS $!"
within 5 attr_is /tmp/held 'held\n'
expect_that "the driver is in use" [ "$(raw open /dev/nvidia0)" = ok ]
start_unbind 0000:01:00.0
within 5 unbind_is S
ct_stop 901
within 5 unbind_is gone
ct_stop 902
set_attr /sys/bus/pci/drivers_probe 0000:01:00.0
driver_is 0000:01:00.0 nvidia

reload_nvidia 300
nodes
both_work
ct_stop 901
ct_stop 902
for id in 901 902; do
	expect_that "$id's configuration is as it was" cmp /tmp/$id.conf /etc/pve/lxc/$id.conf
done

# dev[n] is never optional
rm /dev/nvidia1
ct_starts_not 902 'Device /dev/nvidia1 does not exist'
