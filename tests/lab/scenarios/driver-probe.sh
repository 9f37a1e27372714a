# machine: disguised
# driver: any
# reset: boot
# only: lab
# needs: gpu-iommu-groups lxc-gpu-conf
# contract: yes
# What NVIDIA's driver shows after its load, and what its nodes answer where no GPU can be initialised.

# numbers that differ from boot to boot are no part of it
record() { sed 's/^IRQ:.*/IRQ:   \t\t N/' | while IFS= read -r line; do lab_log "$line"; done; }

note "no card has it yet: the driver is loaded"
exists /proc/driver/nvidia/version
driver_is 0000:01:00.0 nvidia
driver_is 0000:02:00.0 nvidia
find /proc/driver/nvidia /proc/driver/nvidia-caps | sort | record
for file in version params capabilities/mig/config capabilities/mig/monitor capabilities/fabric-imex-mgmt \
	gpus/0000:01:00.0/information gpus/0000:01:00.0/power gpus/0000:02:00.0/information suspend_depth; do
	note "$file"
	record </proc/driver/nvidia/$file
done
note "majors"
sed -n 's/^ *195 \(nvidia.*\)/195 \1/p; s/^ *[0-9]* \(nvidia.*\)/N \1/p' /proc/devices | sort -u | record
note "the module has no parameters in sysfs that the stand-in does not add"
absent /sys/module/nvidia/parameters/NVreg_OpenRmEnableUnsupportedGpus

mknod -m 666 /dev/nvidiactl c 195 255
mknod -m 666 /dev/nvidia0 c 195 0
mknod -m 666 /dev/nvidia1 c 195 1
mknod -m 666 /dev/nvidia2 c 195 2
for node in nvidiactl nvidia0 nvidia1 nvidia2; do
	note "open $node: $(raw open /dev/$node), with O_NONBLOCK $(raw open-nonblock /dev/$node)"
done
tool gpu-iommu-groups --all --vendor 10de
expect_rc 0
says '"driver":"nvidia"'
minor=$(sed -n 's/^Device Minor:[^0-9]*//p' /proc/driver/nvidia/gpus/0000:01:00.0/information)
set_attr /sys/bus/pci/drivers/nvidia/unbind 0000:01:00.0
expect_rc 0
note "its node after the unbind: $(raw open /dev/nvidia$minor)"
absent /proc/driver/nvidia/gpus/0000:01:00.0
set_attr /sys/bus/pci/drivers/nvidia/bind 0000:01:00.0
expect_rc 0
