# Written by gpu-vfio-bind: sets driver_override before native drivers are loaded.

say() { echo "gpu-vfio-bind: $*" >/dev/kmsg 2>/dev/null || echo "gpu-vfio-bind: $*"; }

drivers=
moved=
while read -r address vendor device subvendor subdevice driver by rest; do
	case $address in '' | '#'*) continue ;; esac
	case " $drivers " in *" $driver "*) ;; *) drivers="$drivers $driver" ;; esac
	[ "$by" = address ] || continue
	dir=/sys/bus/pci/devices/$address
	if [ ! -e "$dir/driver_override" ]; then
		say "$address: no such function, nothing is bound"
		continue
	fi
	read -r v <"$dir/vendor"
	read -r d <"$dir/device"
	read -r sv <"$dir/subsystem_vendor"
	read -r sd <"$dir/subsystem_device"
	if [ "$v $d $sv $sd" != "$vendor $device $subvendor $subdevice" ]; then
		say "$address: left alone: it is $v $d $sv $sd, not $vendor $device $subvendor $subdevice"
		continue
	fi
	echo "$driver" >"$dir/driver_override"
	# a driver that is built into the kernel may have it already
	if [ -e "$dir/driver" ]; then
		echo "$address" >"$dir/driver/unbind"
	fi
	moved="$moved $address"
done </etc/gpu-vfio-bind.list
for driver in $drivers; do
	modprobe "$driver" || say "cannot load $driver"
done
# loading probes them; where the driver was there before, nothing does
for address in $moved; do
	[ -e "/sys/bus/pci/devices/$address/driver" ] || echo "$address" >/sys/bus/pci/drivers_probe
done
