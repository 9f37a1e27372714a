# Written by gpu-vfio-bind: sets driver_override before native drivers are loaded.

say() { echo "gpu-vfio-bind: $*" >/dev/kmsg 2>/dev/null || echo "gpu-vfio-bind: $*"; }

# sets f to $1 with underscores
fold() {
	f=$1
	while :; do
		case $f in *-*) f=${f%%-*}_${f#*-} ;; *) break ;; esac
	done
}

# loads a driver and sets name to what the kernel calls it: a module and its
# driver may be spelled differently
load() {
	modprobe "$1" || say "cannot load $1"
	name=$1
	[ ! -e "/sys/bus/pci/drivers/$1" ] || return 0
	fold "$1"
	wanted=$f
	for dir in /sys/bus/pci/drivers/*; do
		fold "${dir##*/}"
		[ "$f" != "$wanted" ] || name=${dir##*/}
	done
}

drivers=
moved=
while read -r address vendor device subvendor subdevice driver by rest; do
	case $address in '' | '#'*) continue ;; esac
	case $drivers in
	*" $driver="*)
		name=${drivers#*" $driver="}
		name=${name%% *}
		;;
	*)
		load "$driver"
		drivers="$drivers $driver=$name "
		;;
	esac
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
	echo "$name" >"$dir/driver_override"
	# a driver that is built into the kernel may have it already
	if [ -e "$dir/driver" ]; then
		echo "$address" >"$dir/driver/unbind"
	fi
	moved="$moved $address"
done </etc/gpu-vfio-bind.list
# the drivers are there already, so nothing else probes them
for address in $moved; do
	[ -e "/sys/bus/pci/devices/$address/driver" ] || echo "$address" >/sys/bus/pci/drivers_probe
done
