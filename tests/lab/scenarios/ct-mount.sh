# machine: two-gpus
# reset: boot
# needs: lxc-gpu-conf
# only: lab
# lxc: yes
# Containers with mount entries, as 'lxc-gpu-conf add --style mount' writes them. A privileged one has a rule for
# each device number, and a major number that moved makes such a rule wrong: check tells, sync repairs.

pve_host
nodes
old=$(major_of nvidia-uvm)

ct_create 901 privileged
tool lxc-gpu-conf add 901 --gpu 0000:01:00.0 --style mount
expect_rc 0
expect_that "901 has a rule" grep -q "^lxc.cgroup2.devices.allow: c $old:0 rw\$" /etc/pve/lxc/901.conf
ct_start 901
for node in nvidia0 nvidiactl nvidia-uvm; do opens_inside 901 /dev/$node ok; done
opens_inside 901 /dev/nvidia1 ENOENT
ct_stop 901

# unprivileged: entries and no rules
ct_create 902 unprivileged
tool lxc-gpu-conf add 902 --gpu all --style mount
expect_rc 0
cp /etc/pve/lxc/902.conf /tmp/
expect_that "902 has no rules" [ "$(grep -c devices /tmp/902.conf)" = 0 ]
unprivileged_works() {
	ct_start 902
	for node in nvidia0 nvidia1 nvidiactl nvidia-uvm; do opens_inside 902 /dev/$node ok 1000; done
	ct_stop 902
}
unprivileged_works

reload_nvidia 300

# the old node opens nothing, in whatever container
ct_start 902
opens_inside 902 /dev/nvidia-uvm ENXIO
ct_stop 902

nodes
unprivileged_works
expect_that "902's configuration is as it was" cmp /tmp/902.conf /etc/pve/lxc/902.conf
ct_start 901
opens_inside 901 /dev/nvidia0 ok
opens_inside 901 /dev/nvidia-uvm EPERM
ct_stop 901

tool lxc-gpu-conf check 901
expect_rc 1
says "$old"
says 300
tool lxc-gpu-conf sync 901
expect_rc 0
expect_that "the rule is right" grep -q '^lxc.cgroup2.devices.allow: c 300:0 rw$' /etc/pve/lxc/901.conf
expect_that "the old rule is gone" [ "$(grep -c "c $old:" /etc/pve/lxc/901.conf)" = 0 ]
tool lxc-gpu-conf check 901
expect_rc 0
ct_start 901
for node in nvidia0 nvidiactl nvidia-uvm; do opens_inside 901 /dev/$node ok; done
opens_inside 901 /dev/nvidia1 ENOENT
ct_stop 901
