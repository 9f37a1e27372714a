#!/bin/sh
# What a machine has that can be named on a command line: value, tab, what it is. It stands in each
# of the completions between single quotes, so it has none, and no backslash. Only files are read.
#
#   candidates.sh function|gpu|vf|ctid|version|cached|driver|vfio ROOT WORD

kind=$1 root=${2%/} word=$3

first() { # FILE: its first line, in $line
	line=
	[ -r "$1" ] && IFS= read -r line <"$1"
}

model() { # DIRECTORY VENDOR DEVICE: the name of a function, in $text
	text=
	info=$root/proc/driver/nvidia/gpus/${1##*/}/information
	if [ -r "$info" ]; then
		while IFS=: read -r key value; do
			if [ "$key" = Model ]; then text=${value#"${value%%[! 	]*}"}; fi
		done <"$info"
	fi
	[ -z "$text" ] || return 0
	ids=$root/usr/share/misc/pci.ids
	[ -r "$ids" ] || return 0
	text=$(sed -n "/^${2#0x} /,/^[0-9a-f]/p" "$ids" | grep "^	${3#0x}  ")
	text=${text#*  }
}

function_of() { # DIRECTORY: prints it if it is of the kind
	first "$1/class" && class=$line
	first "$1/vendor" && vendor=$line
	case $kind/$class/$vendor in
	function/0x03*/* | function/*/0x10de) [ ! -e "$1/physfn" ] || return 0 ;;
	gpu/0x03*/0x10de) [ ! -e "$1/physfn" ] || return 0 ;;
	vf/0x03*/0x10de) ;;
	*) return 0 ;;
	esac
	first "$1/device" && device=$line
	case $class in
	0x03*) model "$1" "$vendor" "$device" ;;
	0x0403*) text="audio of a GPU" ;;
	0x0c03*) text="USB of a GPU" ;;
	0x0c80*) text="USB-C of a GPU" ;;
	*) text= ;;
	esac
	[ ! -e "$1/physfn" ] || text="virtual function${text:+ of $text}"
	driver=$(readlink "$1/driver")
	text="${text:-${vendor#0x}:${device#0x}} (${driver##*/})"
	address=${1##*/}
	# whoever begins with the bus leaves the domain out
	case $word in
	"" | 0*) printf "%s	%s
" "$address" "${text% ()}" ;;
	esac
	case $word/$address in
	/* | 0000*) ;;
	*/0000:*) printf "%s	%s
" "${address#0000:}" "${text% ()}" ;;
	esac
}

container() { # FILE
	ctid=${1##*/}
	name=
	while IFS=": " read -r key value; do
		case $key in
		hostname) name=$value ;;
		"["*) break ;;
		esac
	done <"$1"
	printf "%s	%s
" "${ctid%.conf}" "$name"
}

versions() {
	for file in "$root"/var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-*.run; do
		[ -e "$file" ] || continue
		version=${file##*/NVIDIA-Linux-}
		version=${version#*-}
		version=${version%%[!0-9.]*}
		printf "%s	in the cache
" "${version%.}"
	done
	first "$root/sys/module/nvidia/version"
	[ -z "$line" ] || printf "%s	the loaded module
" "$line"
}

case $kind in
function | gpu | vf)
	for dir in "$root"/sys/bus/pci/devices/*; do
		if [ -e "$dir/class" ]; then function_of "$dir"; fi
	done
	;;
ctid)
	for file in "$root"/etc/pve/lxc/*.conf; do
		if [ -r "$file" ]; then container "$file"; fi
	done
	;;
version | cached) versions ;;
driver | vfio)
	for dir in "$root"/sys/bus/pci/drivers/*; do
		case $kind/${dir##*/} in
		driver/"*" | vfio/vfio-pci) ;;
		driver/* | vfio/*vfio*) printf "%s	driver
" "${dir##*/}" ;;
		esac
	done
	;;
esac
case $kind in
gpu) printf "all	all that the driver of NVIDIA owns
" ;;
version) printf "latest	the newest
" ;;
vfio)
	printf "auto	the variant of vfio-pci that fits best
vfio-pci	driver
"
	;;
esac
