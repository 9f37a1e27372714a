# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_gpu_vfio_bind_global_optspecs
    string join \n o/output= root= v/verbose q/quiet h/help V/version
end

function __fish_gpu_vfio_bind_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_gpu_vfio_bind_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_gpu_vfio_bind_using_subcommand
    set -l cmd (__fish_gpu_vfio_bind_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -s v -l verbose -d 'Print more messages'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -s q -l quiet -d 'Print only errors'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -s V -l version -d 'Print version'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "bind" -d 'Bind slots to vfio-pci, for a VM'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "release" -d 'Return slots to the host\'s drivers'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "persist" -d 'Bind slots to vfio-pci at every boot'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "unpersist" -d 'Stop binding slots at boot'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "status" -d 'Show current and next-boot drivers'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "reset" -d 'Reset slots that do not work after a VM'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "hook" -d 'Bind and release GPUs from a hookscript of a VM'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l driver -d 'VFIO driver, or \'auto\'' -r -f
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l timeout -d 'Seconds to wait for one unbind or bind' -r -f
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l force -d 'Override safety refusals of these kinds' -r -f -a "display\t'The local display goes dark'
network\t'The network connection is cut'
container\t'A container that is given the function loses it'
group\t'The other functions of the IOMMU group stay with the host'
acs\t'The ACS override is active: groups prove nothing'
no-gpu\t'persist: the slot has no GPU'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l group -d 'Also bind the other devices of the IOMMU group'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l stop-persistenced -d 'Stop nvidia-persistenced if it has a GPU open'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -s v -l verbose -d 'Print more messages'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -s q -l quiet -d 'Print only errors'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -l to -d 'Bind the functions that this driver claims to it instead' -r -f
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -l timeout -d 'Seconds to wait for one unbind or bind' -r -f
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -l force -d 'Override safety refusals of these kinds' -r -f -a "display\t'The local display goes dark'
network\t'The network connection is cut'
container\t'A container that is given the function loses it'
group\t'The other functions of the IOMMU group stay with the host'
acs\t'The ACS override is active: groups prove nothing'
no-gpu\t'persist: the slot has no GPU'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -s v -l verbose -d 'Print more messages'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -s q -l quiet -d 'Print only errors'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l by -d 'How to recognise the functions at boot' -r -f -a "address\t'By its address, if its ids are still the same; else it is left alone'
id\t'By its ids, at any address: every identical GPU'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l driver -d 'VFIO driver, or \'auto\'' -r -f
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l force -d 'Override safety refusals of these kinds' -r -f -a "display\t'The local display goes dark'
network\t'The network connection is cut'
container\t'A container that is given the function loses it'
group\t'The other functions of the IOMMU group stay with the host'
acs\t'The ACS override is active: groups prove nothing'
no-gpu\t'persist: the slot has no GPU'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l group -d 'Also bind the other devices of the IOMMU group'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l cmdline -d 'Also enable the IOMMU on the kernel command line'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l blacklist -d 'Also blacklist the kernel\'s own display drivers'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -s v -l verbose -d 'Print more messages'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -s q -l quiet -d 'Print only errors'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -l all -d 'All slots that are bound at boot'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -s v -l verbose -d 'Print more messages'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -s q -l quiet -d 'Print only errors'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -l format -d 'Print configuration for another program' -r -f -a "qm\t'Commands that give the slots to a VM'
kubevirt\t'permittedHostDevices of KubeVirt\'s custom resource'
pve-mapping\t'Resource mappings of Proxmox VE (/etc/pve/mapping/pci.cfg)'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -s v -l verbose -d 'Print more messages'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -s q -l quiet -d 'Print only errors'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand reset" -l timeout -d 'Seconds to wait for one unbind or bind' -r -f
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand reset" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand reset" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand reset" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand reset" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand reset" -s v -l verbose -d 'Print more messages'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand reset" -s q -l quiet -d 'Print only errors'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand reset" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand hook" -l timeout -d 'Seconds to wait for one unbind or bind' -r -f
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand hook" -l force -d 'Override safety refusals of these kinds' -r -f -a "display\t'The local display goes dark'
network\t'The network connection is cut'
container\t'A container that is given the function loses it'
group\t'The other functions of the IOMMU group stay with the host'
acs\t'The ACS override is active: groups prove nothing'
no-gpu\t'persist: the slot has no GPU'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand hook" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand hook" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand hook" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand hook" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand hook" -s v -l verbose -d 'Print more messages'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand hook" -s q -l quiet -d 'Print only errors'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand hook" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status reset hook help" -f -a "bind" -d 'Bind slots to vfio-pci, for a VM'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status reset hook help" -f -a "release" -d 'Return slots to the host\'s drivers'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status reset hook help" -f -a "persist" -d 'Bind slots to vfio-pci at every boot'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status reset hook help" -f -a "unpersist" -d 'Stop binding slots at boot'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status reset hook help" -f -a "status" -d 'Show current and next-boot drivers'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status reset hook help" -f -a "reset" -d 'Reset slots that do not work after a VM'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status reset hook help" -f -a "hook" -d 'Bind and release GPUs from a hookscript of a VM'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status reset hook help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

set -g __pve_gpu_candidates '#!/bin/sh
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
'

# Words of the machine itself: addresses, CTIDs, versions.
function __pve_gpu_complete
    set -l root
    set -l typed (commandline -opc)
    for at in (seq (count $typed))
        switch $typed[$at]
            case --root
                set -l next (math $at + 1)
                test $next -le (count $typed); and set root $typed[$next]
            case '--root=*'
                set root (string replace -- --root= '' $typed[$at])
        end
    end
    set -l word (commandline -ct | string replace -r '^--[^=]*=' '')
    # behind a comma the next of a list begins
    set -l before
    if contains -- $argv[1] gpu function
        set before (string match -r '.*,' -- $word)
        set word (string replace -r '.*,' '' -- $word)
    end
    sh -c $__pve_gpu_candidates sh $argv[1] "$root" "$word" 2>/dev/null | string replace -r '^' -- "$before"
end

# Installers, and directories that lead to some.
function __pve_gpu_runfiles
    __fish_complete_suffix .run | string match -r '^[^\t]*(?:/|[.]run)(?:\t.*)?$'
end

complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -k -x -a '(__pve_gpu_complete function)'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l driver -k -x -a '(__pve_gpu_complete vfio)'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -k -x -a '(__pve_gpu_complete function)'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -l to -k -x -a '(__pve_gpu_complete driver)'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -k -x -a '(__pve_gpu_complete function)'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l driver -k -x -a '(__pve_gpu_complete vfio)'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -k -x -a '(__pve_gpu_complete function)'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -k -x -a '(__pve_gpu_complete function)'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand reset" -k -x -a '(__pve_gpu_complete function)'
