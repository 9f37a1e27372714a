# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_vgpu_profile_set_global_optspecs
    string join \n o/output= root= v/verbose q/quiet h/help V/version
end

function __fish_vgpu_profile_set_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_vgpu_profile_set_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_vgpu_profile_set_using_subcommand
    set -l cmd (__fish_vgpu_profile_set_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -s v -l verbose -d 'Print more messages'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -s q -l quiet -d 'Print only errors'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -s V -l version -d 'Print version'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "list" -d 'Show GPUs, virtual functions and mediated devices with their profiles'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "plan" -d 'Show what apply would do'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "apply" -d 'Set profiles'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "check" -d 'Compare set profiles with requested ones'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "clear" -d 'Clear profiles'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "watch" -d 'Reapply when the file or the hardware state changes'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "hook" -d 'Set profiles for a VM from a hookscript'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "cloud-init" -d 'Print a cloud-init snippet with the licence files of a VM'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -l format -d 'Print configuration for another program' -r -f -a "kubevirt\t'permittedHostDevices of KubeVirt\'s custom resource'
pve-mapping\t'Resource mappings of Proxmox VE (/etc/pve/mapping/pci.cfg)'
qm\t'\'qm set\' lines that give a VM a function with its profile'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -l types -d 'Show the profiles that the GPUs offer'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -s v -l verbose -d 'Print more messages'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -s q -l quiet -d 'Print only errors'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -l config -d 'Use this configuration of a file with several' -r -f
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -l node-name -d 'Name of this cluster node, for [node NAME] sections' -r -f
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -l heterogeneous -d 'Allow several framebuffer sizes on one GPU'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -s v -l verbose -d 'Print more messages'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -s q -l quiet -d 'Print only errors'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -l config -d 'Use this configuration of a file with several' -r -f
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -l node-name -d 'Name of this cluster node, for [node NAME] sections' -r -f
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -l heterogeneous -d 'Allow several framebuffer sizes on one GPU'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -l skip-in-use -d 'Skip what is in use or managed by Proxmox VE'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -s v -l verbose -d 'Print more messages'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -s q -l quiet -d 'Print only errors'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -l config -d 'Use this configuration of a file with several' -r -f
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -l node-name -d 'Name of this cluster node, for [node NAME] sections' -r -f
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -l health-file -d 'Health file: watch writes it, check reads it' -r -F
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -l heterogeneous -d 'Allow several framebuffer sizes on one GPU'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -l alive -d 'With --health-file: check only that watch runs'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -s v -l verbose -d 'Print more messages'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -s q -l quiet -d 'Print only errors'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -l all -d 'Clear all virtual functions of the host'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -l skip-in-use -d 'Skip what is in use or managed by Proxmox VE'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -s v -l verbose -d 'Print more messages'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -s q -l quiet -d 'Print only errors'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -l config -d 'Use this configuration of a file with several' -r -f
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -l node-name -d 'Name of this cluster node, for [node NAME] sections' -r -f
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -l interval -d 'Check the hardware state after this time' -r -f
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -l health-file -d 'Health file: watch writes it, check reads it' -r -F
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -l heterogeneous -d 'Allow several framebuffer sizes on one GPU'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -s v -l verbose -d 'Print more messages'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -s q -l quiet -d 'Print only errors'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand hook" -l config -d 'Use this configuration of a file with several' -r -f
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand hook" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand hook" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand hook" -l warn-only -d 'Print problems, but let the VM start anyway'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand hook" -s v -l verbose -d 'Print more messages'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand hook" -s q -l quiet -d 'Print only errors'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand hook" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand cloud-init" -l feature-type -d 'FeatureType in gridd.conf [default: 1, by profile]' -r -f -a "0\t''
1\t''
2\t''
4\t''"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand cloud-init" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand cloud-init" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand cloud-init" -s v -l verbose -d 'Print more messages'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand cloud-init" -s q -l quiet -d 'Print only errors'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand cloud-init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch hook cloud-init help" -f -a "list" -d 'Show GPUs, virtual functions and mediated devices with their profiles'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch hook cloud-init help" -f -a "plan" -d 'Show what apply would do'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch hook cloud-init help" -f -a "apply" -d 'Set profiles'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch hook cloud-init help" -f -a "check" -d 'Compare set profiles with requested ones'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch hook cloud-init help" -f -a "clear" -d 'Clear profiles'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch hook cloud-init help" -f -a "watch" -d 'Reapply when the file or the hardware state changes'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch hook cloud-init help" -f -a "hook" -d 'Set profiles for a VM from a hookscript'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch hook cloud-init help" -f -a "cloud-init" -d 'Print a cloud-init snippet with the licence files of a VM'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch hook cloud-init help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

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

complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -k -x -a '(__pve_gpu_complete vf)'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -k -x -a '(__pve_gpu_complete vf)'
