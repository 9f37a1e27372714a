# machine: disguised
# driver: real
# reset: boot
# only: lab
# needs: lxc-gpu-conf nv-version-check
# NVIDIA's nvidia-modprobe and nvidia-smi with its driver, and what our tools say about what these made: nodes, modules
# that they load, firmware that is absent.

has() { expect_that "$1 is a node of $2" [ "$(stat -c '%t:%T' "$1" 2>/dev/null)" = "$2" ]; }
major_hex() { printf '%x' "$(sed -n "s/^ *\([0-9]*\) $1\$/\1/p" /proc/devices)"; }

# without /dev/char nvidia-modprobe makes one node and fails; systemd's udev makes that directory
mkdir -p /dev/char
expect_that "no nvidia-uvm before" sh -c '! grep -q nvidia-uvm /proc/devices'
tool lxc-gpu-conf nodes -n
expect_rc 0
tool lxc-gpu-conf nodes
expect_rc 0
statuses changed
has /dev/nvidia0 c3:0
has /dev/nvidia1 c3:1
has /dev/nvidiactl c3:ff
expect_that "the module nvidia-uvm is loaded" [ -e /sys/module/nvidia_uvm ]
has /dev/nvidia-uvm "$(major_hex nvidia-uvm):0"
tool lxc-gpu-conf nodes
expect_rc 0
statuses unchanged

# as its manual has it: a capability's node by its file; our tools hand out none of these
nvidia-modprobe -f /proc/driver/nvidia/capabilities/mig/monitor
has /dev/nvidia-caps/nvidia-cap2 "$(major_hex nvidia-caps):2"
tool lxc-gpu-conf nodes
statuses unchanged

nvidia-smi >/tmp/smi 2>&1
expect_that "nvidia-smi ends with 6: no device is initialised" [ $? = 6 ]
tool nv-version-check
says '"actual":"550.163.01"'
says 550.163.01

set_attr /sys/bus/pci/drivers/nvidia/unbind 0000:01:00.0
set_attr /sys/bus/pci/drivers/nvidia/unbind 0000:02:00.0
nvidia-smi >/tmp/smi 2>&1
expect_that "nvidia-smi ends with 255: the module has no card" [ $? = 255 ]
set_attr /sys/bus/pci/drivers/nvidia/bind 0000:01:00.0

rmmod nvidia_uvm
expect_that "the module goes" lab_until 5 rmmod nvidia
expect_that "the module is gone" [ ! -e /sys/module/nvidia ]
nvidia-smi >/tmp/smi 2>&1
expect_that "nvidia-smi has nvidia-modprobe load the module" [ -e /sys/module/nvidia ]
rmmod nvidia_uvm
expect_that "the module goes once nvidia-smi's open file is closed" lab_until 5 rmmod nvidia
tool nv-version-check
says 'the module is not loaded'
