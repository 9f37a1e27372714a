# machine: two-gpus
# reset: none
# only: lab
# The stand-in modules' own interfaces: nodes, majors that move, information, unbindLock of a vGPU host.

major_of() { sed -n "s/^ *\\([0-9]*\\) $1\$/\\1/p" /proc/devices; }
expect_that "195 is nvidia" [ "$(major_of nvidia)" = 195 ]
uvm=$(major_of nvidia-uvm)
expect_that "nvidia-uvm has a major" [ -n "$uvm" ]
caps=$(major_of nvidia-caps)
expect_that "nvidia-caps has a major" [ -n "$caps" ]
opens() { raw open "$1" >/tmp/opened; }
for node in nvidia0 nvidia1 nvidiactl; do expect_that "/dev/$node opens" opens /dev/$node; done
expect_that "no GPU behind nvidia2" [ "$(raw open /dev/nvidia2)" = ENODEV ]
mknod /tmp/uvm c "$uvm" 0
expect_that "uvm opens" opens /tmp/uvm

grep -q '^NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.163.01  Release Build  ' /proc/driver/nvidia/version
expect_that "the version" [ $? = 0 ]
info=/proc/driver/nvidia/gpus/0000:02:00.0/information
attr_is /proc/driver/nvidia/capabilities/mig/config 'DeviceFileMinor: 1\nDeviceFileMode: 256\nDeviceFileModify: 1\n'
expect_that "the minor in $info" grep -q "^Device Minor: $(printf '\t') 1\$" $info

# unbindLock, of vGPU hosts only: asked with a write, carried out by the close
absent /proc/driver/nvidia/gpus/0000:01:00.0/unbindLock
nvidia_unload
nvidia_load gpus="$LAB_NVIDIA" vgpu_host=1 uvm_major="$uvm" caps_major="$caps"
lock=/proc/driver/nvidia/gpus/0000:01:00.0/unbindLock
attr_is $lock '0\n'
set_attr $lock 1
attr_is $lock '1\n'
set_attr $lock 0
attr_is $lock '0\n'
hold 0
set_attr $lock 1
expect_rc 0
attr_is $lock '0\n'
let_go
# legacy persistence: in use, and nobody has it open
hold_hidden 0
set_attr $lock 1
attr_is $lock '0\n'
start_unbind 0000:01:00.0
within 5 unbind_is S
let_go
within 5 unbind_is gone
set_attr /sys/bus/pci/drivers_probe 0000:01:00.0
driver_is 0000:01:00.0 nvidia

# loaded again, the majors need not be the same
nvidia_unload
driver_is 0000:01:00.0 none
expect_that "a node of the old major opens nothing" [ "$(raw open /tmp/uvm)" = ENXIO ]
moved=300
nvidia_load gpus="$LAB_NVIDIA" uvm_major=$moved caps_major="$caps"
expect_that "another major" [ "$(major_of nvidia-uvm)" = $moved ]
driver_is 0000:01:00.0 nvidia
expect_that "the old node is still wrong" [ "$(raw open /tmp/uvm)" = ENXIO ]
mknod /tmp/uvm2 c $moved 0
expect_that "a new node opens" opens /tmp/uvm2
nvidia_unload
nvidia_load gpus="$LAB_NVIDIA"
